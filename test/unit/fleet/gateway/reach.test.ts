/** The hosts that do not answer: the meaning of each end of a call for that, and the hosts that are asked again. */
import { expect, test } from 'vitest';
import { BlockJobError, type Failure, failure } from '../../../../src/core/errors.ts';
import type { Host } from '../../../../src/fleet/directory/directory.ts';
import type { Agent } from '../../../../src/fleet/gateway/agents.ts';
import { Reach } from '../../../../src/fleet/gateway/reach.ts';

const HOST: Host = { name: 'h', address: 'h:1', identity: '', version: '', instance: '' };

function calling(reach: Reach, isStream = false) {
  const doing = { does: 'ask', rpc: 'X', host: 'h', isStream, setHeader: () => undefined } as const;
  return {
    answers: async () => await reach.during(doing, async () => await Promise.resolve()),
    fails: async (why: Error) => {
      const work = async () => {
        await Promise.resolve();
        throw why;
      };
      await expect(reach.during(doing, work)).rejects.toBe(why);
    },
  };
}

const error = (why: Failure) => new BlockJobError(why);
const UNREACHABLE = error(failure('HOST_UNREACHABLE', { host: 'h', why: 'x' }));
const REFUSED = error(failure('JOB_NOT_FOUND', { job: 'x' }));
const LEFT = new DOMException('', 'AbortError');

/** The hosts that are asked at a look. */
function askedAgain(reach: Reach, hosts: readonly Host[] = [HOST], answer = async () => await Promise.resolve()) {
  const asked: string[] = [];
  const agent = { listDomains: answer } as unknown as Agent;
  reach.tryAgain(hosts, ({ name }) => {
    asked.push(name);
    return agent;
  });
  return asked;
}

test('a host is silent from a call that does not reach it to one that is answered, or refused', async () => {
  const reach = new Reach();
  const { answers, fails } = calling(reach);
  await answers();
  expect([reach.isSilent('h'), askedAgain(reach)]).toEqual([false, []]);
  for (const back of [answers, async () => await fails(REFUSED)]) {
    await fails(UNREACHABLE);
    expect([reach.isSilent('h'), askedAgain(reach)]).toEqual([true, ['h']]);
    // As long as it is silent.
    expect(askedAgain(reach)).toEqual(['h']);
    await back();
    expect([reach.isSilent('h'), askedAgain(reach)]).toEqual([false, []]);
  }
});

test('a call whose caller has left proves nothing: the host is asked again, once; a watch is left all the time', async () => {
  const reach = new Reach();
  await calling(reach).fails(LEFT);
  expect([reach.isSilent('h'), askedAgain(reach), askedAgain(reach)]).toEqual([false, ['h'], []]);
  await calling(reach, true).fails(LEFT);
  expect([reach.isSilent('h'), askedAgain(reach)]).toEqual([false, []]);
  // And one that is silent stays so.
  await calling(reach).fails(UNREACHABLE);
  await calling(reach).fails(LEFT);
  expect(reach.isSilent('h')).toBe(true);
});

test('a host that is slow for one caller is silent only if it does not answer when it is asked again', async () => {
  const reach = new Reach();
  await calling(reach).fails(LEFT);
  const asked = Promise.withResolvers<void>();
  askedAgain(reach, [HOST], async () => await asked.promise);
  expect(reach.isSilent('h')).toBe(false);
  asked.reject(UNREACHABLE);
  await expect(asked.promise).rejects.toBe(UNREACHABLE);
  expect(reach.isSilent('h')).toBe(true);
});

test('hosts that have left the directory are forgotten', async () => {
  const reach = new Reach();
  await calling(reach).fails(UNREACHABLE);
  expect(askedAgain(reach, [])).toEqual([]);
  expect(reach.isSilent('h')).toBe(false);
});
