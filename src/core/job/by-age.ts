/** The order in which jobs were begun, which decides which of two jobs is believed about a file. */
import type { KnownJob } from './known-job.ts';

interface Aged {
  readonly job: Pick<KnownJob, 'beganMs' | 'createTime'>;
}

/**
 * Oldest first. If two jobs have a time on the state folder's clock (`beganMs`) it decides, because the host's clock
 * may have gone back. A job without one was begun by a version that does not write it: before there was one, or after a
 * downgrade. Only the host's clock gives its position among the others.
 */
export function oldestFirst<T extends Aged>(jobs: readonly T[]): readonly T[] {
  const stamped = jobs
    .filter(({ job }) => job.beganMs !== undefined)
    .toSorted((a, b) => (a.job.beganMs ?? 0) - (b.job.beganMs ?? 0) || byHostClock(a, b));
  const plain = jobs.filter(({ job }) => job.beganMs === undefined).toSorted(byHostClock);
  const ordered: T[] = [];
  let next = 0;
  for (const one of stamped) {
    for (let older = plain[next]; older !== undefined && byHostClock(older, one) < 0; older = plain[next]) {
      ordered.push(older);
      next += 1;
    }
    ordered.push(one);
  }
  return [...ordered, ...plain.slice(next)];
}

function byHostClock(a: Aged, b: Aged): number {
  return a.job.createTime.localeCompare(b.job.createTime);
}
