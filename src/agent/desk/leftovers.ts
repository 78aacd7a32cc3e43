/** Objects that jobs made and could not remove: searched at each request, and removed only after another search. */
import type { Call, Leftover, ReclaimResult } from '../../core/block-jobs.ts';
import { BlockJobError, type Failure, fail, failure } from '../../core/errors.ts';
import { hasEnded } from '../../core/job/job.ts';
import type { KnownJob } from '../../core/job/known-job.ts';
import { leftoversIn } from '../../core/job/leftovers.ts';
import { onShared } from '../../core/job/outcome.ts';
import { mayHaveLeftOver } from '../../core/job/retention.ts';
import type { ReclaimRequest } from '../../core/requests.ts';
import { may, mustOperate } from '../../core/rights.ts';
import { inTime } from '../../lib/timer.ts';
import { isStill, isThere, removeFile } from '../files/files.ts';
import { sharedStorage } from '../files/shared-storage.ts';
import { stat } from '../host/disk-files.ts';
import { fileNamesOf } from '../host/file-identity.ts';
import { processWith } from '../host/open-files.ts';
import { MadeIn } from '../host/pinned-folder.ts';
import { performAgain } from '../job/executor.ts';
import type { JobTable } from '../job/job-table.ts';
import type { WhoseJobs } from '../job/whose-jobs.ts';
import { failureFrom } from '../qemu/failures.ts';
import { graphsOf, holderAmong, holderSince, QEMU_ANSWERS_MS, usedBy } from '../qemu/graphs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';
import { throttleLeftovers } from './throttle-leftovers.ts';

interface Found {
  readonly leftover: Leftover;
  /** A later job has used the file for a disk, or a copy: it is not a leftover any more. */
  readonly isTaken?: true;
  readonly remove: () => Promise<void>;
}

export class Leftovers {
  readonly #host: string;
  readonly #machines: VirtualMachines;
  readonly #jobs: JobTable;
  readonly #whose: WhoseJobs;

  constructor(host: string, machines: VirtualMachines, jobs: JobTable, whose: WhoseJobs) {
    this.#host = host;
    this.#machines = machines;
    this.#jobs = jobs;
    this.#whose = whose;
  }

  /** Oldest first; '' for all domains, those that are gone too. */
  async list(domain: string, call: Call): Promise<readonly Leftover[]> {
    const machine = domain === '' ? undefined : this.#machines.find(domain, call);
    const names = new Set([domain, machine?.name, machine?.uuid]);
    const found = (await this.all()).filter((leftover) => may(call, 'read', leftover.domain));
    const isOfDomain = (leftover: Leftover) =>
      names.has(leftover.domain) || names.has(this.#jobs.known.get(leftover.jobId)?.job.accepted.domainUuid);
    return domain === '' ? found : found.filter(isOfDomain);
  }

  /** For any caller. */
  async all(): Promise<readonly Leftover[]> {
    return (await this.#look()).found.filter(({ isTaken }) => isTaken !== true).map(({ leftover }) => leftover);
  }

  /** One after the other, users before the objects that they use, whatever the order of the request. */
  async reclaim({ ids, apply }: Omit<ReclaimRequest, 'requestId'>, call: Call): Promise<readonly ReclaimResult[]> {
    const results = new Map<string, ReclaimResult>();
    const looked = await this.#look();
    const found = looked.found.filter(({ leftover: { id, domain } }) => ids.includes(id) && may(call, 'read', domain));
    for (const { leftover } of found)
      mustOperate(call, leftover.domain, failure('DOMAIN_NOT_FOUND', { domain: leftover.domain }));
    for (const { leftover, remove } of found) {
      results.set(leftover.id, await reclaimed(leftover, apply ? remove : undefined));
    }
    const [unasked] = looked.silent.filter(({ name }) => may(call, 'read', name));
    return ids.map((id) => {
      const result = results.get(id);
      // An object in a QEMU that did not answer may still exist.
      if (result !== undefined || unasked === undefined || id.startsWith('file:'))
        return result ?? { id, leftover: undefined, failure: undefined };
      const why = { domain: unasked.name, why: 'Leftovers of a QEMU cannot be looked for' };
      return { id, leftover: undefined, failure: failure('QEMU_UNREACHABLE', why) };
    });
  }

  /** `silent`: QEMUs that may have more, and did not answer. */
  async #look(): Promise<{ readonly found: readonly Found[]; readonly silent: readonly VirtualMachine[] }> {
    const silent: VirtualMachine[] = [];
    const perMachine = this.#machines.all.map(async (machine) => {
      const found = await inTime(this.#in(machine), QEMU_ANSWERS_MS);
      if (found === undefined && !machine.nobodyListens && !machine.neighbour.isOne) silent.push(machine);
      return found ?? [];
    });
    const options = { host: this.#host, machines: this.#machines, jobs: this.#jobs, whose: this.#whose };
    const inQemu = (await Promise.all(perMachine)).flat();
    const found = [...(await this.#files()), ...inQemu, ...(await throttleLeftovers(options))];
    const byAge = (a: Found, b: Found) => (a.leftover.createTime ?? '').localeCompare(b.leftover.createTime ?? '');
    return { found: found.toSorted(byAge), silent };
  }

  async #files(): Promise<readonly Found[]> {
    const jobs = this.#jobs.known.newestFirst
      .map(({ known }) => known)
      .filter((job) => hasEnded(job) && mayHaveLeftOver(job));
    const graphs = jobs.length === 0 ? [] : await graphsOf(this.#machines);
    const holderNow = holderAmong(graphs);
    const laterNow = this.#jobs.known.later;
    const found = jobs.map(async (job): Promise<Found[]> => {
      const { madeFile: made, accepted } = job;
      const { path, trouble } = await fileLeft(job).catch((error: unknown) => unseen(job, error));
      if (path === undefined) return [];
      const holder = async () => {
        const now = await holderSince(accepted.job, this.#machines, () => this.#jobs.known.later);
        return (await now(path)) ?? (await processWith(path));
      };
      const storage = await sharedStorage(path);
      const shared = storage === undefined ? [] : [onShared(storage)];
      const user = laterNow.withFile(accepted.job, await fileNamesOf(path));
      const leftover: Leftover = {
        id: `file:${accepted.job}`,
        kind: 'FILE',
        host: this.#host,
        domain: accepted.domain,
        jobId: accepted.job,
        name: path,
        allocatedBytes: await allocated(path),
        text: [
          `${WORTH[job.outcome.destinationContent ?? 'UNKNOWN']}: job ${accepted.job} is ${job.state}`,
          ...shared,
        ].join('; '),
        blockedBy: trouble ?? (await holderNow(path)) ?? (user === undefined ? unknown(job) : usedBy(user)),
        createTime: job.createTime,
      };
      const remove = async () => {
        const by = await holder();
        if (by !== undefined) fail('DESTINATION_IN_USE', { path, by });
        if (made !== undefined) await removeFile(made);
      };
      return [{ leftover, remove, ...(user === undefined ? {} : { isTaken: true }) }];
    });
    return (await Promise.all(found)).flat();
  }

  async #in(machine: VirtualMachine): Promise<readonly Found[]> {
    const [jobs, graph] = await Promise.all([machine.jobs(), machine.graph()]);
    const known = {
      of: (job: string) => this.#jobs.known.get(job)?.known,
      isOurs: (job: string) => this.#whose.isOurs(job),
    };
    return leftoversIn(graph, jobs, known).map(({ kind, name, job, text, blockedBy }): Found => {
      const createTime = this.#jobs.known.get(job)?.job.createTime;
      const common = { host: this.#host, domain: machine.name, jobId: job, name, allocatedBytes: 0, text, blockedBy };
      const leftover = { id: `${kind === 'NODE' ? 'node' : 'job'}:${name}`, kind, ...common, createTime };
      const action =
        kind === 'NODE'
          ? ({ do: 'qmp', command: { execute: 'blockdev-del', arguments: { 'node-name': name } } } as const)
          : ({ do: 'end-qmp-job', qemuJob: name } as const);
      const holder = async () => holderAmong(await graphsOf(this.#machines));
      const madeIn = new MadeIn();
      const qemu = { is: 'up', machine } as const;
      const workplace = { domain: machine.name, path: name, qemu, made: undefined, madeIn, holder };
      return { leftover, remove: async () => void (await performAgain(action, workplace)) };
    });
  }
}

const WORTH = {
  PARTIAL: 'an incomplete copy',
  STALE: 'a copy that lacks the newest writes',
  MIRRORED: 'a copy that lacks the newest writes',
  COMPLETE: 'a copy whose job never ended',
  UNKNOWN: 'a file with unknown contents',
};

/** The file that the job made, or may have made: it exists, and whether the job made it was never written down. */
async function fileLeft({ madeFile: made, steps, accepted }: KnownJob): Promise<Left> {
  if (made !== undefined) return { path: made.created && (await isStill(made)) ? made.path : undefined };
  const path = steps.get('create-destination') === 'UNDO_FAILED' ? accepted.destination?.path : undefined;
  return { path: path !== undefined && (await isThere(path)) ? path : undefined };
}

/** `path` is undefined if nothing is left. */
interface Left {
  readonly path: string | undefined;
  readonly trouble?: string;
}

/** A file that cannot be looked at may exist. */
function unseen({ madeFile, accepted }: KnownJob, error: unknown): Left {
  return { path: madeFile?.path ?? accepted.destination?.path, trouble: `it cannot be looked at: ${String(error)}` };
}

/** The guest may have written to it last, or it may belong to somebody else. */
function unknown({ outcome: { destinationContent }, madeFile }: KnownJob): string {
  if (madeFile === undefined) {
    return 'the service ended before it had recorded that it made this file: look at the file, and remove it yourself';
  }
  return destinationContent === 'UNKNOWN'
    ? 'the guest may have moved to it: read the outcome of the job, look at the file, and remove it yourself'
    : '';
}

async function reclaimed(leftover: Leftover, remove: (() => Promise<void>) | undefined): Promise<ReclaimResult> {
  const { id, name, blockedBy } = leftover;
  if (blockedBy !== '') {
    return { id, leftover, failure: failure('DESTINATION_IN_USE', { path: name, by: blockedBy }) };
  }
  try {
    await remove?.();
    return { id, leftover, failure: undefined };
  } catch (error) {
    return { id, leftover, failure: failureOf(error, leftover) };
  }
}

function failureOf(error: unknown, { domain, name }: Leftover): Failure {
  const why = failureFrom(error, { domain, path: name, doing: 'removing a leftover' });
  if (why === undefined) throw error;
  return error instanceof BlockJobError ? error.failure : why;
}

async function allocated(path: string): Promise<number> {
  const stats = await stat(path).catch(() => undefined);
  return stats === undefined ? 0 : Number(stats.blocks) * 512;
}
