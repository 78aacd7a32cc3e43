/** The thread that passes over /proc. It runs this same file. It ends with the process. */
import { once } from 'node:events';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { type AllFound, passFor, type Search } from './process-pass.ts';

const FOR_PASSES = 'passes over /proc';

export class ProcessThread {
  readonly #worker: Worker;
  /** It may die between two passes. */
  readonly #died: Promise<never>;

  private constructor(worker: Worker) {
    this.#worker = worker;
    const died = Promise.withResolvers<never>();
    worker.on('error', died.reject);
    worker.on('exit', () => died.reject(new Error('the thread has ended')));
    died.promise.catch(() => undefined);
    this.#died = died.promise;
  }

  /** Rejects if it cannot start. */
  static async start(): Promise<ProcessThread> {
    const worker = new Worker(new URL(import.meta.url), { workerData: FOR_PASSES, execArgv: [] });
    const thread = new ProcessThread(worker);
    await thread.#answer();
    worker.unref();
    return thread;
  }

  /** One at a time. Rejects if the thread has died. */
  async pass(searches: readonly Search[]): Promise<AllFound> {
    // The process does not end before the answer.
    this.#worker.ref();
    this.#worker.postMessage(searches);
    try {
      return (await this.#answer()) as AllFound;
    } finally {
      this.#worker.unref();
    }
  }

  async #answer(): Promise<unknown> {
    const [answer] = await Promise.race([once(this.#worker, 'message'), this.#died]);
    return answer;
  }
}

if (workerData === FOR_PASSES) {
  parentPort?.on('message', (searches: readonly Search[]) => {
    const running = passFor(searches);
    let step = running.next();
    while (step.done !== true) step = running.next();
    parentPort?.postMessage(step.value);
  });
  parentPort?.postMessage('begun');
}
