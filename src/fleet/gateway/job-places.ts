/** The host of a job: remembered, or determined by asking all hosts. */
import type { Call } from '../../core/block-jobs.ts';
import { type BlockJobError, fail, failure } from '../../core/errors.ts';
import type { JobView } from '../../core/job/job-view.ts';
import { may, notThere } from '../../core/rights.ts';
import type { Directory, Host } from '../directory/directory.ts';
import type { Agent, Agents } from './agents.ts';
import { askAll } from './ask-all.ts';

interface Place {
  readonly host: string;
  readonly domain: string;
}

/** Only a cache: a forgotten entry is asked again. */
const REMEMBERED = 100_000;

export class JobPlaces {
  readonly #directory: Directory;
  readonly #agents: Agents;
  readonly #places = new Map<string, Place>();

  constructor(directory: Directory, agents: Agents) {
    this.#directory = directory;
    this.#agents = agents;
  }

  remember({ job: { accepted } }: JobView): void {
    const { job, host, domain } = accepted;
    this.#places.delete(job);
    this.#places.set(job, { host, domain });
    const [oldest] = this.#places.keys();
    if (this.#places.size > REMEMBERED && oldest !== undefined) this.#places.delete(oldest);
  }

  /**
   * The host of the job, if it is there now, and the job's domain. Throws JOB_NOT_FOUND, or HOST_UNREACHABLE if the
   * absence is not proved. A job that the caller may not read is searched like one that does not exist.
   */
  async of(job: string, call: Call): Promise<{ readonly host: Host; readonly domain: string }> {
    const known = this.#places.get(job);
    if (known === undefined || !may(call, 'read', known.domain)) return await this.#search(job, call);
    return { host: hostNamed(this.#directory, known.host), domain: known.domain };
  }

  /** It is not where it was remembered. */
  forget(job: string): void {
    this.#places.delete(job);
  }

  async #search(job: string, call: Call): Promise<{ readonly host: Host; readonly domain: string }> {
    const mayRead = ({ job: { accepted } }: JobView) => may(call, 'read', accepted.domain);
    const ask = async (agent: Agent, asked: Call) => await agent.getInfo({ jobId: job }, asked);
    const all = await askAll(this.#directory.hosts(), this.#agents, ask, call, mayRead);
    const found = all.answers.find(({ answer }) => mayRead(answer));
    if (found !== undefined) {
      this.remember(found.answer);
      return { host: found.host, domain: found.answer.job.accepted.domain };
    }
    const other = all.refusals.find(({ reason }: BlockJobError) => reason !== 'JOB_NOT_FOUND');
    if (other !== undefined) throw other;
    const silent = [...all.unreachable, ...this.#directory.missing()];
    // The absence is not proved if a host could not be asked.
    const [host, ...others] = silent;
    const orOn = others.length === 0 ? '' : `, or on ${others.join(', ')}`;
    if (host !== undefined) fail('HOST_UNREACHABLE', { host, why: `job ${job} may be there${orOn}` });
    const { freshness } = this.#directory;
    if (!freshness.live) fail('DIRECTORY_UNREACHABLE', { why: freshness.why, what: `job ${job}` });
    return notThere(failure('JOB_NOT_FOUND', { job }), call, this.#places.get(job)?.domain);
  }
}

export const NOT_THERE = 'its agent is not in the directory';

/** Throws HOST_UNREACHABLE if its agent is not in the directory. */
export function hostNamed(directory: Pick<Directory, 'host'>, name: string): Host {
  return directory.host(name) ?? fail('HOST_UNREACHABLE', { host: name, why: NOT_THERE });
}
