/** The starts of jobs: one at a time for a disk and a file, with an answer once QEMU has accepted the job or not. */
import type { Call, PlannedJob } from '../../core/block-jobs.ts';
import { findDisk } from '../../core/disk/chain.ts';
import { type Failure, fail, failure } from '../../core/errors.ts';
import { writtenBy } from '../../core/job/job-facts.ts';
import type { Accepted } from '../../core/job/journal-entry.ts';
import type { Labelled } from '../../core/job/labels.ts';
import type { ConfigOwner, JobKind } from '../../core/job-options.ts';
import type { StartRequest } from '../../core/requests.ts';
import { may, mayRead, mustOperate } from '../../core/rights.ts';
import type { CommitSpec } from '../../core/rules/commit.ts';
import type { RebaseSpec } from '../../core/rules/rebase.ts';
import { given } from '../../core/rules/rule.ts';
import { fileKey } from '../files/files.ts';
import type { Allowed } from '../files/place.ts';
import { usedFiles } from '../host/file-identity.ts';
import type { JobTable, JobTableOptions } from '../job/job-table.ts';
import { chardevsOf, refuseManaged } from '../job/managed.ts';
import { guestOf, refuseMigratingGuest } from '../job/migration.ts';
import type { Owners } from '../job/whose-jobs.ts';
import type { JobLog } from '../journal/job-log.ts';
import { graphsOf } from '../qemu/graphs.ts';
import type { Identity } from '../qemu/identity.ts';
import { Schemas } from '../qemu/schemas.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { refuseBusyDisk, writerOf } from './busy.ts';
import { etagOf, plannedJob } from './planned-job.ts';
import { prepareCommit } from './prepare-commit.ts';
import { prepareCopy } from './prepare-copy.ts';
import { preparePull } from './prepare-pull.ts';
import { processWriting } from './shared-writer.ts';
import { type Site, sourceOf } from './site.ts';

export interface StartsOptions extends Pick<JobTableOptions, 'machines' | 'mayChange'> {
  readonly host: string;
  readonly owners: Owners;
  readonly jobs: JobTable;
  readonly allowed: Allowed;
  /** Also on VMs of libvirt. */
  readonly allowManaged: boolean;
  /** For a request that names none. */
  readonly configOwner: ConfigOwner;
}

export interface Start {
  readonly rpc: string;
  readonly request: StartRequest;
  readonly spec: StartSpec;
}

/** The features that QEMU must have. */
const KINDS = { copy: 'COPY', pull: 'PULL', commit: 'COMMIT' } as const satisfies Record<StartSpec['does'], JobKind>;

export class Starts {
  readonly #options: StartsOptions;
  readonly #schemas = new Schemas();
  /** The disks on which starts are being prepared, and the files that these starts will write: no journal has them yet. */
  readonly #taken = new Set<string>();

  constructor(options: StartsOptions) {
    this.#options = options;
  }

  /** Resolves when QEMU has accepted or refused the job, or it was given up (`log.neverRan`). The caller may leave. */
  async start(start: Start, call: Call): Promise<JobLog> {
    const { jobs, mayChange } = this.#options;
    const { rpc, request } = start;
    const { signal } = call;
    // A repeated start is known by its id alone: its VM may be gone by now, or belong to another host.
    const log = await jobs.requests.once({ rpc, request, call }, async (mark) => {
      const machine = this.#machineOf(request, call);
      await mayChange?.(machine, call);
      return await machine.asking(async (identity) => {
        using taken = new Reservation(this.#taken);
        const accepted = await this.#accept(start, { machine, identity, taken }, call);
        if (request.planEtag !== '' && request.planEtag !== etagOf(accepted)) {
          fail('PLAN_CHANGED', { why: 'the disk, its chain, the destination or QEMU has changed' });
        }
        return await jobs.begin({ ...accepted, ...originOf(request, call) }, mark);
      });
    });
    // Also for an earlier request: the caller may have lost its rights since.
    mustOperate(call, log.job.accepted.domain, unknownDomain(request));
    await log.started(signal);
    signal.throwIfAborted();
    if (log.refused) await jobs.left(log);
    return log;
  }

  /** The present effect of `start`. Throws the errors that `start` would; changes nothing. */
  async plan(start: Start, call: Call): Promise<PlannedJob> {
    const { request } = start;
    const machine = this.#machineOf(request, call);
    return await machine.asking(async (identity) => {
      using taken = new Reservation(this.#taken);
      return plannedJob(await this.#accept(start, { machine, identity, taken }, call), request);
    });
  }

  #machineOf(request: StartRequest, call: Call): VirtualMachine {
    const machine = this.#options.machines.get(request.disk.domain, call);
    mustOperate(call, machine.name, unknownDomain(request));
    return machine;
  }

  async #accept(start: Start, at: StartingAt, call: Call): Promise<Accepted> {
    const { request, spec } = start;
    const site = await this.#survey(start, at, call);
    const accepted = await prepare(spec, site);
    await this.#reserveFile(accepted, at.taken, call);
    // The objects found at the beginning may have other names by now, or another QEMU the socket.
    mustOperate(call, accepted.domain, unknownDomain(request));
    mustOperate(call, at.machine.name, unknownDomain(request));
    return { ...this.#owned(accepted, request), uses: await usedFiles(accepted, site.disk) };
  }

  #owned(accepted: Accepted, { configOwner }: StartRequest): Accepted {
    if (accepted.destination === undefined) return accepted;
    const options = { ...accepted.options, configOwner: given(configOwner) ?? this.#options.configOwner };
    return { ...accepted, options };
  }

  async #survey({ request, spec }: Start, { machine, identity, taken }: StartingAt, call: Call): Promise<Site> {
    const { machines, jobs, host, owners, allowed, allowManaged } = this.#options;
    const { domain, disk: address } = request.disk;
    const schema = await this.#schemas.require(KINDS[spec.does], machine, identity);
    const [guest, graph, chardevs, listed] = await Promise.all([
      guestOf(machine),
      machine.graph(),
      allowManaged ? undefined : chardevsOf(machine),
      machine.jobs(),
    ]);
    refuseMigratingGuest(machine, guest);
    const disk = findDisk(graph, address) ?? fail('DISK_NOT_FOUND', { domain, disk: address });
    if (!allowManaged) refuseManaged(machine, graph, chardevs);
    refuseBusyDisk(disk, { machine, table: jobs, jobs: listed });
    jobs.refuseMore();
    // From here to the journal's first entry the disk is taken, although no job has it yet.
    if (!taken.take(`${machine.socketPath} ${disk.qdev}`)) {
      fail('START_UNDER_WAY', { domain: machine.name, disk: disk.id });
    }
    const writing = spec.does === 'copy' ? processWriting({ disk, identity }) : undefined;
    // Nobody waits for it if the start is refused meanwhile.
    writing?.catch(() => undefined);
    const [all, source] = await Promise.all([graphsOf(machines, { machine, graph }), sourceOf(machine, disk)]);
    const graphs = all.map((one) => (may(call, 'read', one.domain) ? one : { ...one, isHidden: true as const }));
    const beside = jobs.known.active.map(({ job }) => job);
    const found = { machine, identity, schema, graph, disk, ...source, graphs, beside };
    return { host, owner: owners.own, allowed, ...found, ...(writing && { writing }) };
  }

  /** Throws DESTINATION_IN_USE for a file that a job writes, or will write after its preparation. */
  async #reserveFile(accepted: Accepted, taken: Reservation, call: Call): Promise<void> {
    const path = writtenBy(accepted);
    if (path === undefined) return;
    const user = await writerOf(path, this.#options.jobs.known.active);
    const by = user && (mayRead(call, user.job) ? `job ${user.job.accepted.job}` : 'another job');
    if (by !== undefined) fail('DESTINATION_IN_USE', { path, by });
    const names = new Set([path, await fileKey(path)]);
    if (![...names].every((name) => taken.take(name))) {
      fail('DESTINATION_IN_USE', { path, by: 'another job that is being started' });
    }
  }
}

/** A start that is being prepared, and its reservations so far. */
interface StartingAt {
  readonly machine: VirtualMachine;
  readonly identity: Identity;
  readonly taken: Reservation;
}

function originOf({ labels = {} }: StartRequest, { caller }: Call): Labelled {
  return { ...(Object.keys(labels).length > 0 && { labels }), ...(caller !== undefined && { createdBy: caller }) };
}

function unknownDomain({ disk: { domain } }: StartRequest): Failure {
  return failure('DOMAIN_NOT_FOUND', { domain });
}

type StartSpec = RebaseSpec | { readonly does: 'commit'; readonly commit: CommitSpec };

/** Turns a valid request into a job that can begin. Throws the reason against it, and changes nothing. */
async function prepare(spec: StartSpec, site: Site): Promise<Accepted> {
  switch (spec.does) {
    case 'copy':
      return await prepareCopy(spec.copy, site);
    case 'pull':
      return await preparePull(spec.pull, site);
    case 'commit':
      return await prepareCommit(spec.commit, site);
  }
}

/** The disks and files that one start has taken. They are free again when this is disposed of. */
class Reservation implements Disposable {
  readonly #all: Set<string>;
  readonly #own: string[] = [];

  /** `all`: the disks and files of all starts. */
  constructor(all: Set<string>) {
    this.#all = all;
  }

  /** False if another start has it. */
  take(what: string): boolean {
    if (this.#all.has(what)) return false;
    this.#all.add(what);
    this.#own.push(what);
    return true;
  }

  [Symbol.dispose](): void {
    for (const one of this.#own) this.#all.delete(one);
  }
}
