/** The starts of jobs: one at a time a disk and a file, and an answer when QEMU has accepted the job or not. */
import type { Call, PlannedJob } from '../core/block-jobs.ts';
import { findDisk } from '../core/chain.ts';
import { fail, failure } from '../core/errors.ts';
import { writtenBy } from '../core/job-facts.ts';
import type { Accepted, JobKind } from '../core/journal-entry.ts';
import type { StartRequest } from '../core/requests.ts';
import { may, mustOperate } from '../core/rights.ts';
import { refuseBusyDisk } from './busy.ts';
import { fileKey } from './files.ts';
import { isReadable } from './find-job.ts';
import { graphsOf } from './graphs.ts';
import type { JobLog } from './job-log.ts';
import type { JobTable } from './job-table.ts';
import { refuseManaged } from './managed.ts';
import { refuseMigrating } from './migration.ts';
import type { Allowed } from './place.ts';
import { etagOf, plannedJob } from './planned-job.ts';
import { Schemas } from './schemas.ts';
import type { Site } from './site.ts';
import { usedFiles } from './used-files.ts';
import type { VirtualMachine } from './virtual-machine.ts';
import type { VirtualMachines } from './virtual-machines.ts';
import type { Owners } from './whose-jobs.ts';
import { writerOf } from './writer-of.ts';

export interface StartsOptions {
  readonly host: string;
  readonly owners: Owners;
  readonly machines: VirtualMachines;
  readonly jobs: JobTable;
  readonly allowed: Allowed;
  /** On VMs of libvirt, too. */
  readonly allowManaged: boolean;
  /** Asked before a start changes anything: rejects where this host is not to do so. Undefined: all here is ours. */
  readonly mayChange?: (domain: Pick<VirtualMachine, 'name' | 'uuid'>, call: Call) => Promise<void>;
}

export interface Start {
  readonly rpc: string;
  readonly request: StartRequest;
  readonly kind: JobKind;
  /** Throws what speaks against the job; changes nothing. */
  readonly prepare: (site: Site) => Promise<Accepted>;
}

export class Starts {
  readonly #options: StartsOptions;
  readonly #schemas = new Schemas();
  /** Disks on which a start is being prepared, and the files that it will write. */
  readonly #claims = new Set<string>();

  constructor(options: StartsOptions) {
    this.#options = options;
  }

  /**
   * Resolves when QEMU has accepted the job, or it was refused or given up (`log.neverRan`). Whoever waits may leave: the
   * start goes on to its end all the same.
   */
  async start(start: Start, call: Call): Promise<JobLog> {
    const { jobs, machines, mayChange } = this.#options;
    const { signal } = call;
    // A start that is repeated is known by its id alone: its VM may be gone by now, or another host's.
    const { rpc, request } = start;
    const { domain } = request.disk;
    const unknown = failure('DOMAIN_NOT_FOUND', { domain });
    const log = await jobs.requests.once({ rpc, request, call }, async (mark) => {
      const machine = machines.get(domain, call);
      mustOperate(call, machine.name, unknown);
      await mayChange?.(machine, call);
      return await this.#prepared(start, call, async (accepted) => {
        if (request.planEtag !== '' && request.planEtag !== etagOf(accepted)) {
          fail('PLAN_CHANGED', { why: 'the disk, its chain, the destination or QEMU is another now' });
        }
        return await jobs.begin(accepted, mark);
      });
    });
    // Also of what was asked for before: it may not be the caller's any more.
    mustOperate(call, log.job.accepted.domain, unknown);
    await log.started(signal);
    signal.throwIfAborted();
    if (log.refused) await jobs.left(log);
    return log;
  }

  /** What `start` would do now. Throws all that `start` would; changes nothing. */
  async plan(start: Start, call: Call): Promise<PlannedJob> {
    return await this.#prepared(
      start,
      call,
      async (accepted) => await Promise.resolve(plannedJob(accepted, start.request)),
    );
  }

  async #prepared<T>(
    { request, kind, prepare }: Start,
    call: Call,
    use: (accepted: Accepted) => Promise<T>,
  ): Promise<T> {
    const { machines, jobs, host, owners, allowed, allowManaged } = this.#options;
    const { domain, disk: address } = request.disk;
    const machine = machines.get(domain, call);
    const unknown = failure('DOMAIN_NOT_FOUND', { domain });
    mustOperate(call, machine.name, unknown);
    return await machine.asking(async (identity) => {
      await refuseMigrating(machine);
      const schema = await this.#schemas.require(kind, machine, identity);
      const graph = await machine.graph();
      const disk = findDisk(graph, address) ?? fail('DISK_NOT_FOUND', { domain, disk: address });
      if (!allowManaged) await refuseManaged(machine, graph);
      refuseBusyDisk(disk, { machine, table: jobs, jobs: await machine.jobs() });
      jobs.refuseMore();
      const claims: string[] = [];
      const claim = (what: string, refuse: () => never) => {
        if (this.#claims.has(what)) refuse();
        this.#claims.add(what);
        claims.push(what);
      };
      // From here to the journal's first entry the disk is taken, though no job says so yet.
      claim(`${machine.socketPath} ${disk.qdev}`, () =>
        fail('START_UNDER_WAY', { domain: machine.name, disk: disk.id }),
      );
      try {
        const all = await graphsOf(machines);
        const graphs = all.map((one) => (may(call, 'read', one.domain) ? one : { ...one, isHidden: true as const }));
        const accepted = await prepare({
          host,
          owner: owners.own,
          machine,
          identity,
          schema,
          graph,
          disk,
          graphs,
          allowed,
        });
        const path = writtenBy(accepted);
        if (path !== undefined) {
          const user = await writerOf(path, jobs.known.active);
          const by = user && (isReadable(user, call) ? `job ${user.job.accepted.job}` : 'another job');
          if (by !== undefined) fail('DESTINATION_IN_USE', { path, by });
          for (const name of new Set([path, await fileKey(path)])) {
            claim(name, () => fail('DESTINATION_IN_USE', { path, by: 'another job that is being started' }));
          }
        }
        // What was found at the beginning may have another name by now, or another QEMU its socket.
        mustOperate(call, accepted.domain, unknown);
        mustOperate(call, machine.name, unknown);
        return await use({ ...accepted, uses: await usedFiles(accepted, disk) });
      } finally {
        for (const one of claims) this.#claims.delete(one);
      }
    });
  }
}
