/** The host that is asked about a domain, and when another one is asked after it. */
import { describe, expect, it } from 'vitest';
import { Guarded } from '../../../../src/access/guarded.ts';
import type { Policy } from '../../../../src/access/policy.ts';
import type { BlockJobs } from '../../../../src/core/block-jobs.ts';
import { BlockJobError, failure } from '../../../../src/core/errors.ts';
import type { Directory, Found, Host } from '../../../../src/fleet/directory/directory.ts';
import { type Agent, Agents } from '../../../../src/fleet/gateway/agents.ts';
import { Fleet } from '../../../../src/fleet/gateway/fleet.ts';
import { JobPlaces } from '../../../../src/fleet/gateway/job-places.ts';
import { Routes } from '../../../../src/fleet/gateway/routes.ts';
import { jobWith, RUNNING } from '../../core/stories.ts';

const CALL = { signal: new AbortController().signal };

function on(name: string, epoch: bigint): Found {
  const host: Host = { name, address: `${name}:1`, identity: '', version: '', instance: '' };
  return { is: 'one', domain: { id: 'id', name: 'vm', host: name, epoch }, host };
}

/**
 * Asks for `vm`, which is at `before` as far as the gateway knows, and at `after` in truth. Returns the questions to
 * each host.
 */
async function ask(before: Found, after: Found, refusals: Readonly<Record<string, BlockJobError>>) {
  const agents = new Agents((host) => ({ host: host.name, [Symbol.dispose]: () => {} }) as unknown as Agent);
  const looks = { find: () => before, lookAgain: async () => after, freshness: { live: true } };
  const directory = looks as unknown as Directory;
  const routes = new Routes(directory, agents, new JobPlaces(directory, agents));
  const asked: string[] = [];
  const answer = routes.onDomain('vm', 'read', CALL, async (agent, { epoch }) => {
    const { host } = agent as unknown as { readonly host: string };
    asked.push(`${host} @${epoch}`);
    const refusal = refusals[host];
    if (refusal !== undefined) throw refusal;
    return host;
  });
  return { asked, answer: await answer.catch((error: unknown) => error) };
}

const NOT_OWNER = new BlockJobError(failure('NOT_OWNER', { host: 'h1', domain: 'vm', owner: 'h2' }));
const UNKNOWN = new BlockJobError(failure('OWNER_UNKNOWN', { host: 'h1', domain: 'vm' }));
const STALE = new BlockJobError(failure('OWNERSHIP_STALE', { host: 'h1', domain: 'vm' }));
const NOT_FOUND = new BlockJobError(failure('DOMAIN_NOT_FOUND', { domain: 'vm' }));
const MIGRATING = new BlockJobError(failure('GUEST_MIGRATING', { domain: 'vm', status: 'postmigrate' }));
const BUSY = new BlockJobError(failure('BLOCK_COPY_ACTIVE', { domain: 'vm', disk: 'vda', job: 'bj1' }));

describe('a call about a domain', () => {
  it('goes to the host that has it, with the revision at which the host got it', async () => {
    expect(await ask(on('h1', 7n), on('h2', 8n), {})).toEqual({ asked: ['h1 @7'], answer: 'h1' });
  });

  it.each([NOT_OWNER, UNKNOWN, STALE, NOT_FOUND, MIGRATING])(
    'goes to its next host, too, if the first says that it has gone: %s',
    async (refusal) => {
      expect(await ask(on('h1', 7n), on('h2', 8n), { h1: refusal })).toEqual({
        asked: ['h1 @7', 'h2 @8'],
        answer: 'h2',
      });
    },
  );

  it('goes to the same host again that has it once more', async () => {
    const { asked } = await ask(on('h1', 7n), on('h1', 9n), { h1: NOT_OWNER });
    expect(asked).toEqual(['h1 @7', 'h1 @9']);
  });

  it.each([NOT_OWNER, UNKNOWN, STALE, NOT_FOUND, MIGRATING])(
    'is refused as the host says if nobody else has it: %s',
    async (refusal) => {
      expect(await ask(on('h1', 7n), on('h1', 7n), { h1: refusal })).toEqual({ asked: ['h1 @7'], answer: refusal });
    },
  );

  it('is not repeated at another host for another reason', async () => {
    expect(await ask(on('h1', 7n), on('h2', 8n), { h1: BUSY })).toEqual({ asked: ['h1 @7'], answer: BUSY });
  });
});

it('an abort through a gateway with a policy is one call to the agent, and is not begun for a caller without rights', async () => {
  const asked: string[] = [];
  const view = { job: jobWith({ domain: 'vm' }, RUNNING), progress: undefined };
  const answering = (name: string) => async () => {
    asked.push(name);
    return await Promise.resolve(view);
  };
  const agent = { getInfo: answering('getInfo'), abort: answering('abort'), [Symbol.dispose]: () => {} };
  const found = on('h1', 7n);
  const directory = {
    find: () => found,
    host: () => ('host' in found ? found.host : undefined),
    hosts: () => ('host' in found ? [found.host] : []),
    freshness: { live: true },
  } as unknown as Directory;
  using fleet = new Fleet({ directory, connect: () => agent as unknown as Agent, watchersPerJob: 1 });
  const now = { names: () => true, grantOf: (who: string) => ({ read: ['vm'], operate: who === 'me' ? ['vm'] : [] }) };
  const policy = { now: now as unknown as Policy, onChange: () => ({ [Symbol.dispose]: () => {} }) };
  const guarded: BlockJobs = new Guarded(fleet, policy);
  const { job } = view.job.accepted;
  await guarded.getInfo({ jobId: job }, { ...CALL, caller: 'me' });
  asked.length = 0;
  const request = {
    job: { jobId: job },
    pivot: true,
    returnImmediately: false,
    force: false,
    pauseGuest: undefined,
    requestId: '',
  };
  await guarded.abort(request, { ...CALL, caller: 'me' });
  expect(asked).toEqual(['abort']);
  await expect(guarded.abort(request, { ...CALL, caller: 'reader' })).rejects.toThrow('CALLER_NOT_ALLOWED');
  expect(asked).toEqual(['abort']);
});
