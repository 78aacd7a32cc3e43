/**
 * The effect of newer jobs on the outcome of an older one. A file stops being safe to delete, for good, when a later
 * job has it in its disk, or writes to it: its VM may be off now, so that no process has it open. The guest's image is
 * known only until a later job moves the guest.
 */
import { hasEnded } from './job.ts';
import type { KnownJob } from './known-job.ts';
import { type FileNames, namesOfKnown, type UsedFile } from './used-file.ts';

export class LaterJobs {
  readonly #jobs: readonly KnownJob[];
  readonly #at: ReadonlyMap<string, number>;
  /** For each path and key, also of the files below a device: the position of the newest job that uses it. */
  readonly #paths = new Map<string, number>();
  readonly #keys = new Map<string, number>();
  readonly #parts = new Map<string, number>();
  readonly #ofDomain = new Map<string, number[]>();

  /** Oldest first. */
  constructor(jobs: readonly KnownJob[]) {
    this.#jobs = jobs;
    this.#at = new Map(jobs.map(({ accepted }, at) => [accepted.job, at]));
    for (const [at, job] of jobs.entries()) {
      for (const { path, key, keys = [], born } of usesOf(job)) {
        this.#paths.set(path, at);
        const own = [key, born].filter((one) => one !== undefined);
        for (const one of own) this.#keys.set(one, at);
        for (const one of [...own, ...keys]) this.#parts.set(one, at);
      }
      for (const name of domainNames(job)) {
        const places = this.#ofDomain.get(name);
        if (places === undefined) this.#ofDomain.set(name, [at]);
        else places.push(at);
      }
    }
  }

  /** The newest later job that had the file in its disk, or in the image that it wrote a copy to. */
  withFile(job: string, { path, key = '', keys = [], born = '' }: FileNames): string | undefined {
    const own = [key, born].map((one) => this.#parts.get(one));
    const found = [this.#paths.get(path), ...own, ...[key, born, ...keys].map((one) => this.#keys.get(one))];
    const newest = Math.max(...found.map((at) => at ?? -1));
    return newest > (this.#at.get(job) ?? Infinity) ? this.#jobs[newest]?.accepted.job : undefined;
  }

  /** The newest later job of the same disk that moved the guest, may have moved it, or found it elsewhere. */
  thatMoved(job: Pick<KnownJob, 'accepted' | 'outcome'>): string | undefined {
    const since = this.#at.get(job.accepted.job) ?? Infinity;
    const later = domainNames(job).flatMap((name) => this.#ofDomain.get(name) ?? []);
    for (const at of [...new Set(later)].toSorted((a, b) => b - a)) {
      const other = this.#jobs[at];
      if (at <= since || other === undefined) break;
      const isOfDisk = other.accepted.disk === job.accepted.disk;
      if (isOfDisk && mayHaveMoved(other, job.outcome.guestWritesTo)) return other.accepted.job;
    }
    return undefined;
  }
}

function domainNames({ accepted: { domain, domainUuid } }: Pick<KnownJob, 'accepted'>): readonly string[] {
  return [`name ${domain}`, ...(domainUuid === undefined ? [] : [`uuid ${domainUuid.toLowerCase()}`])];
}

function mayHaveMoved({ accepted, concluded, pivotRequested }: KnownJob, from: string | undefined): boolean {
  if (accepted.source.path !== from) return true;
  return concluded?.devicePath === undefined ? pivotRequested : concluded.devicePath !== from;
}

function usesOf(job: KnownJob): readonly UsedFile[] {
  const { accepted, madeFile } = job;
  const made: readonly UsedFile[] = madeFile === undefined ? [] : [{ ...namesOfKnown(madeFile), as: 'COPY' }];
  const uses = [...(accepted.uses ?? usesBefore(job)), ...made];
  return isRubbish(job) ? uses.filter(({ as }) => as === 'DISK') : uses;
}

/** For journals that do not say it. */
function usesBefore({ accepted: { source, destination, committed, options } }: KnownJob): readonly UsedFile[] {
  const paths = [source.path, ...committed.map(({ path }) => path), options.basePath, options.topPath];
  const disk = paths.filter((path) => path !== '').map((path) => ({ path, as: 'DISK' }) as const);
  return destination === undefined ? disk : [...disk, { path: destination.path, as: 'COPY' }];
}

/** Whether the file that it wrote to is neither a disk nor a copy of one. */
function isRubbish(job: KnownJob): boolean {
  const { destinationContent: content } = job.outcome;
  return job.accepted.kind === 'COPY' && hasEnded(job) && (content === 'PARTIAL' || content === 'STALE');
}
