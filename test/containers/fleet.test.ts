/** A fleet as its callers see it: one address is as good as another, and who may not is told so. */
import { describe, expect, it } from 'vitest';
import { Job_State, JobEvent_Type } from '../../generated/blockjob/v1/job.ts';
import { refused } from '../support/caller.ts';
import { Authority } from '../support/certificates.ts';
import { OPERATOR, READER } from '../support/docker/roles.ts';
import { ENDED, tlsOf, watchThrough } from '../support/docker/site-caller.ts';
import { siteOfSuite } from '../support/docker/suite.ts';
import { needs } from '../support/means.ts';
import { testDir, within } from '../support/qemu.ts';

const UNAVAILABLE = 14;
const PERMISSION_DENIED = 7;

describe.skipIf(needs('docker'))('a fleet', () => {
  const suite = siteOfSuite();

  it('copies and pivots through a gateway that is killed meanwhile; the watch goes on through another', async () => {
    const { site, started } = suite;
    const [g1, g2] = site.gateways;
    const [, h2] = site.hosts;
    const [vm] = h2.vms;
    using first = await site.caller(g1);
    using second = await site.caller(g2);
    const to = '/var/lib/images/moved.qcow2';
    const { id } = await first.copy(vm.name, to, { mibPerSecond: 12 });
    started.push(id);
    const revisions: bigint[] = [];
    let killed = false;
    const watch = async () => {
      for await (const { type, revision, job } of watchThrough([first, second], id)) {
        if (type !== JobEvent_Type.TYPE_PROGRESS) revisions.push(revision);
        if (!killed && type === JobEvent_Type.TYPE_PROGRESS) {
          killed = true;
          await h2.write(vm.name, 0x77, '50M', '1M');
          await g1.kill();
        }
        if (job?.state === Job_State.STATE_READY && type === JobEvent_Type.TYPE_STATE) {
          await second.pivot(id);
        }
        if (job !== undefined && ENDED.has(job.state)) return job;
      }
      throw new Error('the watch has ended before the job');
    };
    const job = await within(30_000, 'the end of the job', watch());
    expect(killed).toBe(true);
    expect(revisions).toEqual(revisions.map((_, at) => BigInt(at + 1)));
    expect(job.state).toBe(Job_State.STATE_COMPLETED);
    expect(job.outcome?.guestWritesTo).toBe(to);
    expect(await h2.imageOf(vm.name)).toBe(to);
    await h2.expectBytes(to, 1, '0', '48M');
    await h2.expectBytes(to, 0x77, '50M', '1M');

    await g1.start();
    await site.isWhole();
  }, 60_000);

  it('lets nobody in without a certificate, with one of another authority, or with one that has expired', async () => {
    const { site } = suite;
    const [g1] = site.gateways;
    const [h1] = site.hosts;
    await using dir = await testDir();
    const other = await Authority.make(dir.path);
    const strangers = {
      none: site.credentials(undefined),
      other: tlsOf(site.authority.caFile, await other.sign('stranger', { uri: OPERATOR })),
      expired: site.credentials(await site.authority.sign('expired', { uri: OPERATOR, days: -1 })),
    };
    for (const to of [g1, h1.machine]) {
      for (const [kind, tls] of Object.entries(strangers)) {
        using stranger = await site.caller(to, tls);
        const { code } = await refused(stranger.getDomain('h1-a'));
        expect({ to: to.name, kind, code }).toEqual({ to: to.name, kind, code: UNAVAILABLE });
      }
    }
    // Known, but no gateway.
    using operator = await site.caller(h1.machine);
    expect((await refused(operator.getDomain('h1-a'))).reason).toBe('CALLER_UNKNOWN');
    const audited = (await g1.logs()).split('\n').filter((line) => line.includes('audit: connection refused'));
    expect(audited.length).toBeGreaterThanOrEqual(3);
  });

  it('does not let a reader end a job, and notes who tried', async () => {
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
