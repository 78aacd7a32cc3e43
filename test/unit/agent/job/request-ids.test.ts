import { expect, it } from 'vitest';
import { RequestIds } from '../../../../src/agent/job/request-ids.ts';
import { JobLog } from '../../../../src/agent/journal/job-log.ts';
import type { Call } from '../../../../src/core/block-jobs.ts';
import { BlockJobError } from '../../../../src/core/errors.ts';
import type { RequestMark } from '../../../../src/core/job/journal-entry.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { journalsIn } from '../../../support/service/journals.ts';
import { ACCEPTED } from '../../core/stories.ts';

const { signal } = new AbortController();
/** The subject of the stories. */
const { domain } = ACCEPTED;
const by = (caller: string | undefined, ...operate: readonly string[]): Call => ({
  signal,
  ...(caller === undefined ? {} : { caller, rights: [() => ({ read: [], operate })] }),
});
const request = { requestId: 'once', body: 'b' };

/** The answer to one request: the earlier job, that it is new, or that the id is used. */
async function told(ids: RequestIds, call: Call, asked: typeof request, log: JobLog): Promise<string> {
  let isNew = false;
  const act = async () => {
    isNew = true;
    return await Promise.resolve(log);
  };
  try {
    await ids.once({ rpc: 'Pause', request: asked, call }, act);
    return isNew ? 'new' : 'known';
  } catch (error) {
    return error instanceof BlockJobError ? error.reason : String(error);
  }
}

async function markOf(call: Call): Promise<RequestMark> {
  const marks: RequestMark[] = [];
  const act = async (mark: RequestMark | undefined): Promise<JobLog> => {
    if (mark !== undefined) marks.push(mark);
    return await Promise.reject(new Error('not now'));
  };
  await new RequestIds(() => undefined).once({ rpc: 'Pause', request, call }, act).catch(() => undefined);
  const [mark] = marks;
  if (mark === undefined) throw new Error('there is no mark');
  return mark;
}

it.each([
  ['of a caller', 'ops', { ops: 'known', me: 'new', other: 'new', nobody: 'new' }],
  ['of a caller without a name', '', { ops: 'new', me: 'new', other: 'new', nobody: 'known' }],
  // Any caller that may read the job can be that caller.
  ['that an earlier version wrote', undefined, { ops: 'known', me: 'known', other: 'new', nobody: 'known' }],
])('an id %s is found again in a journal by those whose it may be', async (_whose, caller, expected) => {
  await using dir = await testDir();
  const { id, digest } = await markOf(by('ops', '*'));
  const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED, {
    id,
    digest,
    ...(caller === undefined ? {} : { caller }),
  });
  const answers = async (asked: typeof request) => {
    const each = { ops: by('ops', '*'), me: by('me', domain), other: by('other', 'else'), nobody: by(undefined) };
    const found: Record<string, string> = {};
    for (const [name, call] of Object.entries(each)) {
      const ids = new RequestIds(() => log);
      ids.learn(log);
      found[name] = await told(ids, call, asked, log);
    }
    return found;
  };
  expect(await answers(request)).toEqual(expected);
  const reused = Object.entries(expected).map(([name, one]) => [name, one === 'known' ? 'REQUEST_ID_REUSED' : one]);
  expect(await answers({ ...request, body: 'c' })).toEqual(Object.fromEntries(reused));
  expect(log.revisionOfRequest('once', 'ops')).toBe(caller === '' ? undefined : 1);
  await log.close();
});

it('an id that is in use just now is in use for its caller alone', async () => {
  await using dir = await testDir();
  const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
  const ids = new RequestIds(() => log);
  const { promise, resolve } = Promise.withResolvers<JobLog>();
  const first = ids.once({ rpc: 'Pause', request, call: by('ops', '*') }, async () => await promise);
  const again = told(ids, by('ops', '*'), request, log);
  expect(await told(ids, by('ops', '*'), { ...request, body: 'c' }, log)).toBe('REQUEST_ID_IN_USE');
  expect(await told(ids, by('me', '*'), { ...request, body: 'c' }, log)).toBe('new');
  resolve(log);
  expect(await first).toBe(log);
  expect(await again).toBe('known');
  await log.close();
});
