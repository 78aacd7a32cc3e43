/**
 * Preparations that take minutes, for tests that come late in a run. They run beside other tests, which begin only when
 * each globalSetup has returned. A setupFile of its tests waits for it.
 */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { testDir } from './real-qemu/qemu.ts';

type Outcome = { readonly made: unknown } | { readonly why: string };

/**
 * For Vitest's globalSetup: begins it, and returns a function that waits for its end. In a run of several projects the
 * first one does it.
 */
export async function beginToMake(
  what: string,
  make: () => Promise<unknown>,
): Promise<(() => Promise<void>) | undefined> {
  if (process.env[placeOf(what)] !== undefined) return undefined;
  await using open = new AsyncDisposableStack();
  const path = join(open.use(await testDir()).path, 'made.sock');
  const outcome = make().then(
    (made): Outcome => ({ made }),
    (error: unknown): Outcome => ({ why: String(error) }),
  );
  const server = createServer((asks) => {
    asks.on('error', () => undefined); // It has ended before.
    void outcome.then((is) => asks.end(JSON.stringify(is)));
  });
  await once(server.listen(path), 'listening');
  open.defer(() => void server.close());
  process.env[placeOf(what)] = path;
  const owned = open.move();
  return async () => {
    await outcome;
    await owned.disposeAsync();
  };
}

/** For the tests: the result of the preparation, as soon as it exists. Throws its error if it failed. */
export async function whenMade(what: string): Promise<unknown> {
  const path = process.env[placeOf(what)];
  if (path === undefined) throw new Error(`${what}: not made in this run`);
  const outcome = JSON.parse(await text(connect(path))) as Outcome;
  if ('why' in outcome) throw new Error(`${what}: could not be made: ${outcome.why}`);
  return outcome.made;
}

/** The address of the result: in the environment, which the tests' processes inherit. */
function placeOf(what: string): string {
  return `BLOCKJOBD_MADE_${what.toUpperCase()}`;
}
