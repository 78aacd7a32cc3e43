/**
 * One VM that is asked anything. Requests that cannot begin a job are sent in parallel. A start is sent alone, and
 * requests about its job are sent while the job runs. After each one the world is as before. A failure is reduced as
 * far as possible.
 */
import { rm } from 'node:fs/promises';
import { type Client, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { StartCopyResponse } from '../../../generated/blockjob/v1/block_job_service.ts';
import { type Job, Job_State } from '../../../generated/blockjob/v1/job.ts';
import { catalogue } from '../../../src/core/catalogue.ts';
import { within } from '../real-qemu/qemu.ts';
import { bigintAsText, byId, refusalOf } from '../service/caller.ts';
import type { Service } from '../service/service.ts';
import { type AnyRequest, AnyRequests, isStart, methodOf } from './any-request.ts';
import { FuzzMachine, type Surroundings } from './fuzz-machine.ts';
import type { FuzzTally } from './fuzz-tally.ts';
import { smallest } from './smallest.ts';

/** An answer; a start that has begun a job has the job's id. */
interface Answer {
  readonly result?: StartCopyResponse['result'];
}

function begunBy({ result }: Answer): Job | undefined {
  return result?.$case === 'job' ? result.value : undefined;
}

/** Calls at a time. */
const SIDE_BY_SIDE = 64;
/** The most requests about a job while it runs. */
const ABOUT_EACH = 3;
const ANSWER_MS = 20_000;
/** The number of requests that a failure lists. */
const TOLD = 5;

/** The possible ends of jobs here. */
const WELL: ReadonlySet<Job_State> = new Set([
  Job_State.STATE_COMPLETED,
  Job_State.STATE_CANCELLED,
  Job_State.STATE_FAILED,
]);

export interface FuzzLaneOptions {
  readonly service: Service;
  readonly sockets: string;
  readonly tally: FuzzTally;
}

export class FuzzLane implements AsyncDisposable {
  readonly #service: Service;
  readonly #tally: FuzzTally;
  readonly #machine: FuzzMachine;
  readonly #requests: AnyRequests;
  #before: Surroundings;

  private constructor({ service, tally }: FuzzLaneOptions, machine: FuzzMachine, before: Surroundings) {
    this.#service = service;
    this.#tally = tally;
    this.#machine = machine;
    this.#requests = new AnyRequests(machine);
    this.#before = before;
  }

  static async open(options: FuzzLaneOptions): Promise<FuzzLane> {
    const machine = await FuzzMachine.start(options.sockets);
    await options.service.domainUp(machine.name);
    return new FuzzLane(options, machine, await machine.world());
  }

  /** Sends this number of requests, and throws an error with the smallest request that shows it. */
  async round(count: number, seed: number): Promise<void> {
    const all = this.#requests.some(count, seed);
    const ofDisk = all.filter((request) => this.#requests.isOfDisk(request));
    const isAlone = new Set(ofDisk);
    const starts = ofDisk.filter(isStart);
    const about = ofDisk.filter((request) => !isStart(request));
    const parts = starts.map((start) => [start, ...about.splice(0, ABOUT_EACH)]);
    const others = [...all.filter((request) => !isAlone.has(request)), ...about];
    for (let at = 0; at < others.length; at += SIDE_BY_SIDE) parts.push(others.slice(at, at + SIDE_BY_SIDE));
    for (const part of parts) {
      const wrong = await this.#wrongWith(part);
      if (wrong !== undefined) throw new Error(await this.#report(wrong, part));
    }
  }

  /** Undefined if each one has a typed answer that is not a bug, and nothing is left. */
  async #wrongWith(part: readonly AnyRequest[]): Promise<string | undefined> {
    const [first, ...others] = part;
    if (first === undefined) return undefined;
    const isAlone = isStart(first) && this.#requests.isOfDisk(first);
    const wrong = isAlone ? await this.#wrongWithStart(first, others) : await this.#wrongWithBatch(part);
    const world = await this.#machine.world();
    if (world.graph === this.#before.graph && world.files === this.#before.files) return wrong;
    const left = `left behind: ${JSON.stringify(world)}, and not ${JSON.stringify(this.#before)}`;
    await this.#putBack();
    return wrong ?? left;
  }

  async #wrongWithBatch(part: readonly AnyRequest[]): Promise<string | undefined> {
    const loggedBefore = this.#service.logLength;
    const answers = await Promise.all(part.map(async (request) => await this.#answered(request)));
    this.#tally.logged(this.#service.logLength - loggedBefore, part.length);
    return answers.find(({ wrong }) => wrong !== undefined)?.wrong;
  }

  /** The disk may move: then everything is restored, so that the next request finds the same state. */
  async #wrongWithStart(start: AnyRequest, about: readonly AnyRequest[]): Promise<string | undefined> {
    const { wrong, answer } = await this.#answered(start);
    const id = answer && begunBy(answer)?.id;
    if (wrong !== undefined || id === undefined) return wrong;
    this.#tally.begun += 1;
    for (const request of about) {
      const { wrong: also } = await this.#answered(request);
      if (also !== undefined) return also;
    }
    const ended = await this.#end(id);
    if (typeof ended === 'string') return ended;
    const isMoved =
      ended.state === Job_State.STATE_COMPLETED && (await this.#machine.world()).graph !== this.#before.graph;
    if (isMoved) {
      await this.#putBack();
      return undefined;
    }
    // A complete copy rightly stays.
    const { target } = ended.destination ?? {};
    if (target?.$case === 'file' && !target.value.endsWith('/there')) await rm(target.value, { force: true });
    return undefined;
  }

  /** The error, or the job after its end. */
  async #end(id: string): Promise<Job | string> {
    try {
      await within(ANSWER_MS, 'an answer to abort', this.#service.abort({ job: byId(id) }));
    } catch (error) {
      // It may have ended by itself, as a pull does, or because of a request about it.
      const { reason, message } = refusalOf(error);
      if (reason !== 'JOB_ENDED' && reason !== 'JOB_ENDING') return `no end of ${id}: ${message}`;
    }
    await within(ANSWER_MS, `the end of ${id}`, this.#ended(id));
    const job = await this.#service.getInfo(id);
    return WELL.has(job.state) ? job : `${id} is ${JSON.stringify(job, bigintAsText)}`;
  }

  async #ended(id: string): Promise<void> {
    for await (const _event of this.#service.watch(id));
  }

  async #answered(request: AnyRequest): Promise<{ wrong?: string; answer?: Answer }> {
    const { rpc } = request;
    const said = await within(ANSWER_MS, `an answer to ${rpc}`, this.#ask(request));
    if (!(said instanceof Error)) {
      this.#tally.count(request, begunBy(said) !== undefined && isStart(request) ? 'JOB' : 'OK');
      return { answer: said };
    }
    const { reason, domain, message, code } = refusalOf(said);
    this.#tally.count(request, reason === '' ? `code ${code}` : reason);
    const isTyped = domain === 'blockjob.v1.ErrorReason' && Object.hasOwn(catalogue, reason);
    const isOurs = !isTyped || catalogue[reason as keyof typeof catalogue].code === 'INTERNAL';
    // Nobody sends more at a time than the limit: such an answer shows nothing.
    return isOurs || reason === 'TOO_MANY_CALLS' ? { wrong: `${rpc} is answered ${code} ${message}` } : {};
  }

  async #ask({ rpc, bytes }: AnyRequest): Promise<Answer | Error> {
    const { client: name, path } = methodOf(rpc);
    const client: Client = this.#service[name];
    const { responseDeserialize, responseStream: isStream } = methodOf(rpc);
    const serialize = () => Buffer.from(bytes);
    if (isStream) {
      const stream = client.makeServerStreamRequest(path, serialize, responseDeserialize, {}, new Metadata());
      return await new Promise((resolve) => {
        stream.on('data', () => {
          resolve({});
          stream.cancel();
        });
        stream.on('error', resolve);
        stream.on('end', () => resolve({}));
      });
    }
    return await new Promise((resolve) => {
      const answered = (error: ServiceError | null, response?: Answer) => resolve(error ?? response ?? {});
      client.makeUnaryRequest(path, serialize, responseDeserialize, {}, new Metadata(), answered);
    });
  }

  async #putBack(): Promise<void> {
    this.#tally.renewed += 1;
    await this.#machine.putBack();
    await this.#service.domainUp(this.#machine.name);
    this.#before = await this.#machine.world();
  }

  async #report(wrong: string, part: readonly AnyRequest[]): Promise<string> {
    const shows = async (some: readonly AnyRequest[]) => (await this.#wrongWith(some)) !== undefined;
    const few = await smallest(part, shows);
    const [first] = few;
    const requests = [...few];
    if (first !== undefined && few.length === 1) {
      const bytes = await smallest(
        [...first.bytes],
        async (some) => await shows([{ ...first, bytes: Uint8Array.from(some) }]),
      );
      requests[0] = { ...first, bytes: Uint8Array.from(bytes) };
    }
    const words = requests.slice(0, TOLD).map((request) => {
      const read = JSON.stringify(this.#requests.read(request), bigintAsText);
      return `${request.rpc} ${Buffer.from(request.bytes).toString('hex')} ${read ?? '(no message)'}`;
    });
    return [wrong, `by ${requests.length} requests:`, ...words].join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#machine[Symbol.asyncDispose]();
  }
}
