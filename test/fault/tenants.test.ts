/** Tenants that share a host: the policy is applied to the found object, at the moment of the action. */
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { refusalOf, refused } from '../support/service/caller.ts';
import { GUARDED_WAYS, Tenants, UUIDS } from '../support/service/tenants.ts';

let tenants: Tenants;
beforeEach(async () => {
  tenants = await Tenants.open();
}, 60_000);
afterEach(async () => await tenants[Symbol.asyncDispose]());

const toFile = (path: string) => ({ target: { $case: 'file' as const, value: path } });

test('a VM that a gateway does not know is looked up by its name, not by the UUID that names it', async () => {
  // Its UUID begins with an a, and its caller may operate such VMs.
  const caller = await tenants.caller('a gateway', 'a');
  const disk = { domain: UUIDS.theirs, disk: 'vd0' };
  const answer = await refused(caller.startCopy({ disk, destination: toFile(join(tenants.dir, 'copy')) }));
  expect(answer).toMatchObject({
    code: status.NOT_FOUND,
    reason: 'DOMAIN_NOT_FOUND',
    metadata: { domain: UUIDS.theirs },
  });
  expect(tenants.qemus.theirs.changes).toEqual([]);
});

describe.each(GUARDED_WAYS)('%s', (way) => {
  test('a caller that may only read is told so, whichever name it uses', async () => {
    await tenants.startTheirs('once');
    const reader = await tenants.caller(way, 'reader');
    const { running } = tenants.jobs;
    const disk = { domain: UUIDS.theirs, disk: 'vd0' };
    const changes = tenants.qemus.theirs.changes.length;
    for (const ask of [
      async () => await reader.startCopy({ disk, destination: toFile('/nowhere/copy') }),
      async () => await reader.rebase({ disk }),
      async () => await reader.commit({ disk }),
      async () => await reader.abort({ job: { name: { $case: 'disk', value: disk } } }),
      async () => await reader.abort({ job: { name: { $case: 'jobId', value: running } } }),
      async () => await reader.setSpeed(running, 1n),
      async () => await reader.pause(running),
      async () => await reader.resume(running),
      async () =>
        await reader.reclaim(
          (await reader.listLeftovers()).map(({ id }) => id),
          true,
        ),
    ]) {
      expect(await refused(ask())).toMatchObject({
        code: status.PERMISSION_DENIED,
        reason: 'CALLER_NOT_ALLOWED',
        metadata: { caller: 'spiffe://site/reader', operation: 'operate', domain: 'theirs' },
      });
    }
    expect(tenants.qemus.theirs.changes).toHaveLength(changes);
  });

  test('a start is checked again after a wait', async () => {
    const me = await tenants.caller(way, 'me');
    tenants.beforeChange = () => tenants.policy.becomes({ 'spiffe://site/me': { read: ['mine'] } });
    const disk = { domain: 'mine', disk: 'vd0' };
    const answer = await me.startCopy({ disk, destination: toFile(join(tenants.dir, 'copy')) }).then(
      (job) => job.disk?.domain,
      (error: unknown) => refusalOf(error).reason,
    );
    // The rights that a gateway sends are those at the time of the call: the agent uses them.
    expect(answer).toBe(way === 'an agent' ? 'CALLER_NOT_ALLOWED' : 'mine');
  });

  test('a file is in use by a domain without a name, for a caller that may not read the domain', async () => {
    await tenants.startTheirs('once');
    const [me, ops] = [await tenants.caller(way, 'me'), await tenants.caller(way, 'ops')];
    const { running } = tenants.jobs;
    const used = { disk: join(tenants.dir, 'theirs.qcow2'), copy: join(tenants.dir, 'copy-once') };
    for (const path of Object.values(used)) {
      const request = { disk: { domain: 'mine', disk: 'vd0' }, destination: toFile(path), reuseExternal: true };
      const [theirs, own] = [await refused(me.startCopy(request)), await refused(ops.startCopy(request))];
      for (const answer of [theirs, own]) expect(answer).toMatchObject({ reason: 'DESTINATION_IN_USE' });
      expect(own.message).toContain('domain theirs');
      const told = JSON.stringify(theirs).replaceAll(path, '');
      for (const word of ['theirs', running]) expect(told).not.toContain(word);
      expect(theirs.metadata).toEqual({ path });
      expect(theirs.message).toContain('another domain');
    }
  });

  test('a caller with as many names as a policy takes is served', async () => {
    const me = await tenants.caller(way, 'me');
    const others = Array.from({ length: 360 }, (_, at) => `vm${String(at).padStart(6, '0')}`);
    tenants.policy.becomes({ 'spiffe://site/me': { operate: [...others, 'mine'] } });
    expect((await me.getDomain('mine')).name).toBe('mine');
    expect((await me.listDomains()).map(({ name }) => name)).toEqual(['mine']);
  });

  test('request_ids belong to each caller alone', async () => {
    await tenants.startTheirs('once');
    const [me, ops] = [await tenants.caller(way, 'me'), await tenants.caller(way, 'ops')];
    const request = (more: object = {}) => ({
      disk: { domain: 'mine', disk: 'vd0' },
      destination: toFile(join(tenants.dir, 'my-copy')),
      requestId: 'once',
      ...more,
    });
    const { id } = await me.startCopy(request());
    expect(await me.startCopy(request())).toMatchObject({ id });
    // The answer names the caller's own job, and no job of others.
    expect(await refused(me.pause(id, 'once'))).toMatchObject({ reason: 'REQUEST_ID_REUSED', metadata: { job: id } });
    expect(await refused(ops.pause(id, 'once'))).toMatchObject({
      reason: 'REQUEST_ID_REUSED',
      metadata: { job: tenants.jobs.running },
    });
    // A caller gets no job that it may no longer read, by any id.
    tenants.policy.becomes({ 'spiffe://site/me': { operate: ['other'] } });
    expect(await refused(me.startCopy(request()))).toMatchObject({ reason: 'DOMAIN_NOT_FOUND' });
    expect(await refused(me.pause(id, 'once'))).toMatchObject({ reason: 'JOB_NOT_FOUND' });
  });

  test('a watch ends when its caller is removed from the policy, as if the job did not exist', async () => {
    await tenants.startTheirs('once');
    const ops = await tenants.caller(way, 'ops');
    const { running } = tenants.jobs;
    const seen: unknown[] = [];
    const ended = await refused(
      (async () => {
        for await (const event of ops.watch(running)) {
          seen.push(event);
          // From here on only this happens.
          tenants.policy.becomes({ 'spiffe://site/other': { operate: ['*'] } });
        }
      })(),
    );
    expect(ended).toMatchObject({ reason: 'JOB_NOT_FOUND', metadata: { job: running } });
    expect(seen).toHaveLength(1);
    // The policy does not concern the job.
    expect(tenants.qemus.theirs.jobs).toContain(running);
  });
});
