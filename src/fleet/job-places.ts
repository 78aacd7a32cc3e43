/** Which host has a job: remembered, and found out by asking all of them. */
import type { Call } from '../core/block-jobs.ts';
import { type BlockJobError, fail } from '../core/errors.ts';
import type { JobView } from '../core/job-view.ts';
import type { Agents } from './agents.ts';
import { askAll } from './ask-all.ts';
import type { Directory, Host } from './directory.ts';

/** A memory only: what is forgotten is asked for again. */
const REMEMBERED = 100_000;

export class JobPlaces {
  readonly #directory: Directory;
  readonly #agents: Agents;
  readonly #hosts = new Map<string, string>();

  constructor(directory: Directory, agents: Agents) {
    this.#directory = directory;
    this.#agents = agents;
  }

  remember({ job: { accepted } }: JobView): void {
    this.#hosts.delete(accepted.job);
    this.#hosts.set(accepted.job, accepted.host);
    const [oldest] = this.#hosts.keys();
    if (this.#hosts.size > REMEMBERED && oldest !== undefined) this.#hosts.delete(oldest);
  }

  /** The host that has the job, if it is there now. Throws JOB_NOT_FOUND, or HOST_UNREACHABLE where that is not proved. */
  async hostOf(job: string, call: Call): Promise<Host> {
    const name = this.#hosts.get(job);
    if (name === undefined) return await this.#search(job, call);
    return this.#directory.host(name) ?? fail('HOST_UNREACHABLE', { host: name, why: NOT_THERE });
  }

  /** It is not where it was remembered. */
  forget(job: string): void {
    this.#hosts.delete(job);
  }

  async #search(job: string, call: Call): Promise<Host> {
    const hosts = this.#directory.hosts();
    const ask = await askAll(
      hosts,
      (host) => this.#agents.of(host),
      async (agent, asked) => await agent.getInfo({ jobId: job }, asked),
      call,
      () => true,
    );
    const [found] = ask.answers;
    if (found !== undefined) {
      this.remember(found.answer);
      return found.host;
    }
    const other = ask.refusals.find(({ reason }: BlockJobError) => reason !== 'JOB_NOT_FOUND');
    if (other !== undefined) throw other;
    const silent = [...ask.unreachable, ...missingHosts(this.#directory)];
    // Not found where one could not look is no proof.
    if (silent.length > 0) fail('HOST_UNREACHABLE', { host: silent.join(', '), why: `job ${job} may be there` });
    const { freshness } = this.#directory;
    if (!freshness.live) fail('DIRECTORY_UNREACHABLE', { why: freshness.why, what: `job ${job}` });
    return fail('JOB_NOT_FOUND', { job });
  }
}

export const NOT_THERE = 'its agent is not in the directory';

/** Hosts that own domains, and are not there. */
export function missingHosts(directory: Directory): readonly string[] {
  const missing = new Set<string>();
  for (const { host } of directory.domains()) if (directory.host(host) === undefined) missing.add(host);
  return [...missing].toSorted();
}
