/** A fleet as its callers see it: all addresses are equal, and a caller without rights gets an error. */
import { describe, expect, it } from 'vitest';
import { Job_State, JobEvent_Kind } from '../../generated/blockjob/v1/job.ts';
import { eventuallyAnswers } from '../support/docker/eventually-answers.ts';
import { OPERATOR, READER } from '../support/docker/roles.ts';
import { follow, tlsOf } from '../support/docker/site-caller.ts';
import { siteOfSuite } from '../support/docker/suite.ts';
import { needs } from '../support/means.ts';
import { testDir, within } from '../support/real-qemu/qemu.ts';
import { refused } from '../support/service/caller.ts';
import { Authority } from '../support/service/certificates.ts';

const UNAVAILABLE = 14;
const PERMISSION_DENIED = 7;
/** A connection needs two round trips before it can be used: two seconds are its limit. */
const ONE_WAY_MS = 300;
/** Two keepalives of the client, and a margin for a busy machine; a reset connection is noticed at once. */
const FOUND_OUT_MS = 12_000;
/** These events are not entries of the journal. */
const LIVE = new Set<unknown>([JobEvent_Kind.KIND_SNAPSHOT, JobEvent_Kind.KIND_PROGRESS, JobEvent_Kind.KIND_HEARTBEAT]);

/** A line of machine/client.ts. */
interface Said {
  readonly job?: string;
  readonly kind?: number;
  readonly revision?: number;
  readonly state?: number;
  readonly through?: string;
  readonly at: number;
}

describe.skipIf(needs('docker'))('a fleet', () => {
  const suite = siteOfSuite();

  it('copies and pivots for a remote client, whose watch continues through gateway 2 when 1 is killed', async () => {
    const { site, started } = suite;
    const [g1] = site.gateways;
    const [, h2] = site.hosts;
    const [vm] = h2.vms;
    const to = '/var/lib/images/moved.qcow2';
    const client = await site.client(vm.name, to);
    const killedAt = Date.now();
    await g1.kill();
    await h2.write(vm.name, 0x77, '50M', '1M');
    expect(await within(30_000, 'the end of the client', client.ended())).toBe(0);
    const lines = (await client.logs()).trim().split('\n');
    const said = lines.map((line): Said => JSON.parse(line));
    const events = said.filter(({ kind }) => kind !== undefined);
    expect([...new Set(events.map(({ through }) => through))]).toEqual(['g1:50051', 'g2:50051']);
    const goesOn = events.find(({ through }) => through === 'g2:50051');
    expect((goesOn?.at ?? Number.NaN) - killedAt).toBeLessThan(FOUND_OUT_MS);
    // Each revision once, and all of them.
    const [{ job = '' } = {}] = events;
    started.push(job);
    const journal = (await h2.journals()).find((one) => one.job === job);
    const revisions = events.filter(({ kind }) => !LIVE.has(kind)).map(({ revision }) => revision);
    expect(revisions).toEqual(journal?.entries.map(({ revision }) => revision));
    expect(events.at(-1)?.state).toBe(Job_State.STATE_COMPLETED);
    expect(said.at(-1)).toMatchObject({ writesTo: to });
    expect(await h2.imageOf(vm.name)).toBe(to);
    await h2.expectBytes(to, 1, '0', '48M');
    await h2.expectBytes(to, 0x77, '50M', '1M');

    await g1.start();
    await site.isWhole(20_000);
  });

  it('reaches a host that is far away: slowly, and without losing it, while the other hosts stay as fast', async () => {
    const { site, started } = suite;
    const [g1] = site.gateways;
    const [, , h3] = site.hosts;
    const [vm] = h3.vms;
    using caller = await site.caller(g1);
    const toNear = async () => await timed(caller.getDomain('h1-a'));
    const toFar = async () => await timed(caller.getDomain(vm.name));
    await h3.signalAgent('KILL');
    await h3.startFarAgent(ONE_WAY_MS);
    await site.isWhole(30_000);
    const entries = (await site.observer.ofHost('h3')).length;
    const to = '/var/lib/images/far.qcow2';
    const { id } = await caller.copy(vm.name, to, { mibPerSecond: 4 });
    started.push(id);
    const { end } = await follow([caller], id);
    const [far, near]: [number[], number[]] = [[], []];
    for (let at = 0; at < 5; at += 1) {
      far.push(await toFar());
      near.push(await toNear());
    }
    // A busy machine delays some of them, and not all.
    expect(Math.min(...far)).toBeGreaterThan(2 * ONE_WAY_MS);
    expect(Math.min(...far)).toBeLessThan(2 * ONE_WAY_MS + 1000);
    expect(Math.min(...near)).toBeLessThan(ONE_WAY_MS);
    // It takes longer than two leases: the lease is renewed.
    await eventuallyAnswers('the copy is ready', 30_000, async () => {
      return (await caller.getInfo(id)).state === Job_State.STATE_READY || undefined;
    });
    expect((await caller.pivot(id)).outcome?.guestWritesTo).toBe(to);
    expect((await within(20_000, 'the end of the watch', end)).state).toBe(Job_State.STATE_COMPLETED);
    await h3.expectBytes(to, 1, '0', '48M');
    expect((await site.observer.ofHost('h3')).length).toBe(entries);
  });

  it('refuses callers without a certificate, with one of another authority, or with an expired one', async () => {
    const { site } = suite;
    const [g1] = site.gateways;
    const [h1] = site.hosts;
    await using dir = await testDir();
    const other = await Authority.make(dir.path);
    const strangers = {
      none: site.credentials(undefined),
      other: tlsOf(site.authority.caFile, await other.sign('stranger', { uri: OPERATOR })),
      expired: site.credentials(await site.authority.sign('expired', { uri: OPERATOR, days: 0 })),
    };
    for (const to of [g1, h1.machine]) {
      for (const [kind, tls] of Object.entries(strangers)) {
        using stranger = await site.caller(to, tls);
        const { code } = await refused(stranger.getDomain('h1-a'));
        expect({ to: to.name, kind, code }).toEqual({ to: to.name, kind, code: UNAVAILABLE });
      }
    }
    // A known caller, but not a gateway.
    using operator = await site.caller(h1.machine);
    expect((await refused(operator.getDomain('h1-a'))).reason).toBe('CALLER_UNKNOWN');
    const audited = (await g1.logs()).split('\n').filter((line) => line.includes('audit: connection refused'));
    expect(audited.length).toBeGreaterThanOrEqual(3);
  });

  it('does not let a reader end a job, and logs the attempt', async () => {
    const { site, started } = suite;
    const [g1] = site.gateways;
    const [h1] = site.hosts;
    using operator = await site.caller(g1);
    using reader = await site.caller(g1, site.credentials(await site.authority.sign('reader', { uri: READER })));
    const { id } = await operator.copy(h1.vms[0].name, '/var/lib/images/kept.qcow2', { mibPerSecond: 1 });
    started.push(id);
    expect((await reader.getInfo(id)).state).toBe(Job_State.STATE_RUNNING);
    const { code, reason } = await refused(reader.cancel(id));
    expect({ code, reason }).toEqual({ code: PERMISSION_DENIED, reason: 'CALLER_NOT_ALLOWED' });
    expect(await g1.logs()).toContain(`"caller":"${READER}"`);
    expect((await operator.cancel(id)).state).toBe(Job_State.STATE_CANCELLED);
    expect(await h1.imageOf(h1.vms[0].name)).toBe('/var/lib/images/h1-a.qcow2');
  });

  suite.judge();
});

async function timed(answer: Promise<unknown>): Promise<number> {
  const began = performance.now();
  await answer;
  return performance.now() - began;
}
