/** The effect on jobs and their callers if an agent dies, hangs, or cannot be reached. */
import { describe, expect, it } from 'vitest';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventuallyAnswers } from '../support/docker/eventually-answers.ts';
import type { Host } from '../support/docker/host.ts';
import { TTL_MS } from '../support/docker/roles.ts';
import { follow, type SiteCaller } from '../support/docker/site-caller.ts';
import { siteOfSuite } from '../support/docker/suite.ts';
import { needs } from '../support/means.ts';
import { within } from '../support/real-qemu/qemu.ts';
import { type Refusal, refused } from '../support/service/caller.ts';

/** Two keepalives, and room for a busy machine. */
const FOUND_OUT_MS = 8000;
/** The time for which an agent waits for an answer of etcd. */
const PATIENCE_MS = 3000;
const UNREACHABLE = { code: 14, reason: 'HOST_UNREACHABLE' };

interface Copied {
  readonly id: string;
  readonly name: string;
  readonly to: string;
}

describe.skipIf(needs('docker'))('an agent', () => {
  const suite = siteOfSuite();

  /** A copy that takes long enough for events to happen during it. */
  const copyOf = async (host: Host, caller: SiteCaller, file: string): Promise<Copied> => {
    const [{ name }] = host.vms;
    const { id } = await caller.copy(name, `/var/lib/images/${file}`, { mibPerSecond: 4 });
    suite.started.push(id);
    return { id, name, to: `/var/lib/images/${file}` };
  };

  it('is killed: the directory forgets it in time, QEMU continues, and the next agent adopts the job', async () => {
    const { site } = suite;
    const [h1] = site.hosts;
    using caller = await site.caller(site.gateways[0]);
    const copy = await copyOf(h1, caller, 'adopted.qcow2');
    const { end } = await follow([caller], copy.id);

    await h1.signalAgent('KILL');
    const killedAt = Date.now();
    const asked = await timed(caller.getInfo(copy.id));
    expect(asked).toMatchObject(UNREACHABLE);
    expect(asked.ms).toBeLessThan(2000);
    const gone = await eventuallyAnswers('the directory forgets it', TTL_MS + 5000, async () => {
      return (await site.observer.ofHost('h1')).findLast(({ at, value }) => at > killedAt && value === undefined);
    });
    expect(gone.at - killedAt).toBeLessThan(TTL_MS + 1000);
    expect(await h1.jobsOf(copy.name)).toEqual(['mirror']);

    await h1.startAgent();
    await eventuallyAnswers('the next agent has the job', 10_000, async () => await caller.getInfo(copy.id));
    // The agent does not keep callers waiting once it has its place in the directory.
    expect((await h1.saidAt('Serving')) - (await h1.saidAt('This host is in the directory'))).toBeLessThan(2500);
    await finish(h1, caller, copy);
    expect((await within(10_000, 'the end of the watch', end)).state).toBe(Job_State.STATE_COMPLETED);
  });

  it('is stopped: calls are answered in seconds, the other hosts continue, and it comes back', async () => {
    const { site } = suite;
    const [, h2, h3] = site.hosts;
    using caller = await site.caller(site.gateways[0]);
    const copy = await copyOf(h2, caller, 'stopped.qcow2');
    const { end } = await follow([caller], copy.id);
    await h2.signalAgent('STOP');
    const stoppedAt = Date.now();
    const asked = await timed(caller.getInfo(copy.id));
    expect(asked).toMatchObject(UNREACHABLE);
    expect(asked.ms).toBeLessThan(FOUND_OUT_MS);
    expect((await caller.getDomain(h3.vms[0].name)).error).toBeUndefined();
    await eventuallyAnswers('the directory forgets it', TTL_MS + 5000, async () => {
      return (await site.observer.ofHost('h2')).findLast(({ at, value }) => at > stoppedAt && value === undefined);
    });
    const again = await timed(caller.getInfo(copy.id));
    expect(again).toMatchObject(UNREACHABLE);
    expect(again.ms).toBeLessThan(1000);
    expect((await caller.allDomains()).unreachableHosts).toEqual(['h2']);

    await h2.signalAgent('CONT');
    await eventuallyAnswers('it is back', 15_000, async () => await caller.getInfo(copy.id));
    await finish(h2, caller, copy);
    expect((await within(10_000, 'the end of the watch', end)).state).toBe(Job_State.STATE_COMPLETED);
  });

  for (const [how, cut, heal] of [
    ['pulled', 'leave', 'join'],
    ['cut without notice', 'drop', 'undrop'],
  ] as const) {
    it(`has its cable to the gateways ${how}: calls are answered in seconds, and the watch has no gap`, async () => {
      const { site } = suite;
      const [, , h3] = site.hosts;
      using caller = await site.caller(site.gateways[1]);
      const copy = await copyOf(h3, caller, `${cut}.qcow2`);
      const { end } = await follow([caller], copy.id);
      await h3.machine[cut](site.networks.hosts);
      const asked = await timed(caller.getInfo(copy.id));
      expect(asked).toMatchObject(UNREACHABLE);
      expect(asked.ms).toBeLessThan(FOUND_OUT_MS);
      const { domains, unreachableHosts } = await caller.allDomains();
      expect({ domains: domains.length, unreachableHosts }).toEqual({ domains: 4, unreachableHosts: ['h3'] });
      expect(await h3.jobsOf(copy.name)).toEqual(['mirror']);

      await h3.machine[heal](site.networks.hosts);
      await eventuallyAnswers('it is back', 15_000, async () => await caller.getInfo(copy.id));
      await finish(h3, caller, copy);
      expect((await within(10_000, 'the end of the watch', end)).state).toBe(Job_State.STATE_COMPLETED);
      expect((await site.observer.ofHost('h3')).length).toBe(1);
    });
  }

  it('loses etcd: it changes nothing when its lease is over, and its jobs end truthfully', async () => {
    const { site } = suite;
    const [h1] = site.hosts;
    const [, { name }] = h1.vms;
    using caller = await site.caller(site.gateways[0]);
    using direct = await site.agent(h1);
    const to = '/var/lib/images/fenced.qcow2';
    const { id } = await caller.copy(name, to, { mibPerSecond: 4 });
    suite.started.push(id);
    await h1.machine.leave(site.networks.owning);
    const cutAt = performance.now();
    // Nobody can have taken the domain while the lease holds: a pivot is refused only for its own reasons.
    let lastTrusted = cutAt;
    const refusal = await eventuallyAnswers('it refuses', TTL_MS + PATIENCE_MS, async () => {
      const answer = await refused(direct.pivot(id));
      if (answer.reason !== 'JOB_NOT_READY') return answer;
      lastTrusted = performance.now();
      return undefined;
    });
    expect(refusal.reason).toBe('DIRECTORY_UNREACHABLE');
    expect(lastTrusted - cutAt).toBeLessThan(TTL_MS);
    await eventuallyAnswers('gateways do not see it any more', TTL_MS, async () => {
      return (await timed(caller.getInfo(id)).catch(() => undefined))?.reason === UNREACHABLE.reason || undefined;
    });
    await eventuallyAnswers('the copy is ready', 30_000, async () => {
      return (await direct.getInfo(id)).state === Job_State.STATE_READY || undefined;
    });
    expect((await refused(direct.pivot(id))).reason).toBe('DIRECTORY_UNREACHABLE');
    expect((await refused(direct.copy(h1.vms[0].name, '/var/lib/images/no.qcow2', { mibPerSecond: 1 }))).reason).toBe(
      'DIRECTORY_UNREACHABLE',
    );
    expect(await h1.imageOf(name)).toBe(`/var/lib/images/${name}.qcow2`);

    await h1.machine.join(site.networks.owning);
    await eventuallyAnswers('it is back', 15_000, async () => await caller.getInfo(id));
    expect((await caller.cancel(id)).state).toBe(Job_State.STATE_CANCELLED);
    await h1.expectBytes(to, 2, '0', '48M');
  });

  suite.judge();
});

/** A refusal, and the time until it came. */
async function timed(answer: Promise<unknown>): Promise<Pick<Refusal, 'code' | 'reason'> & { ms: number }> {
  const began = performance.now();
  const { code, reason } = await refused(answer);
  return { code, reason, ms: performance.now() - began };
}

/** Pivots a copy when it is ready; it must succeed, and its outcome must be true. */
async function finish(host: Host, caller: SiteCaller, { id, name, to }: Copied): Promise<void> {
  await eventuallyAnswers('the copy is ready', 30_000, async () => {
    const { state } = await caller.getInfo(id);
    return state === Job_State.STATE_READY || undefined;
  });
  const { state, outcome } = await caller.pivot(id);
  expect({ state, writesTo: outcome?.guestWritesTo }).toEqual({ state: Job_State.STATE_COMPLETED, writesTo: to });
  expect(await host.imageOf(name)).toBe(to);
  await host.expectBytes(to, 1, '0', '48M');
}
