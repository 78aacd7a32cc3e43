/**
 * The processes that have sockets or a file. One pass over /proc serves all who ask before it begins. It takes a core
 * for tens of milliseconds on a host with many VMs: so it is done in a thread of its own, beside the calls.
 */
import { setImmediate } from 'node:timers/promises';
import { Rounds } from '../../lib/rounds.ts';
import { type AllFound, type FoundDescriptor, passFor, type Search } from './process-pass.ts';

type Pass = (searches: readonly Search[]) => Promise<AllFound>;

/** How long a pass of this thread keeps everybody else waiting. */
const PASS_MS = 1;

const passes = new Rounds<Search, readonly FoundDescriptor[]>(async (searches) => await pass(searches));

/** Until the thread has started, and if it cannot. */
let pass: Pass = here;
let starting: Promise<void> | undefined;

export async function foundBy(search: Search): Promise<readonly FoundDescriptor[]> {
  // A service without jobs needs no thread: it looks at sockets when a QEMU comes.
  if (search.is === 'FILE') starting ??= startThread();
  return (await passes.ask(search)) ?? [];
}

async function here(searches: readonly Search[]): Promise<AllFound> {
  const running = passFor(searches);
  let since = performance.now();
  for (;;) {
    const { done, value } = running.next();
    if (done === true) return value;
    if (performance.now() - since < PASS_MS) continue;
    await setImmediate();
    since = performance.now();
  }
}

/** Resolves when the passes are done in the thread, or it is known that it cannot be had. */
export async function startThread(start: () => Promise<Pass> = inThread): Promise<void> {
  try {
    const there = await start();
    pass = async (searches) => {
      try {
        return await there(searches);
      } catch (error) {
        withoutThread(error);
        return await here(searches);
      }
    };
  } catch (error) {
    withoutThread(error);
  }
}

/** Loaded here, because a bundle needs a file for the thread. */
async function inThread(): Promise<Pass> {
  const { ProcessThread } = await import('./process-thread.ts');
  const thread = await ProcessThread.start();
  return async (searches) => await thread.pass(searches);
}

function withoutThread(error: unknown): void {
  pass = here;
  process.emitWarning(`No thread for looks at /proc, so calls wait for them: ${String(error)}`);
}
