/** The owner of a domain when the domain moves, and when two hosts have it. */
import { describe, expect, it } from 'vitest';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventuallyAnswers } from '../support/docker/eventually-answers.ts';
import { SHARED, TTL_MS } from '../support/docker/roles.ts';
import type { SiteCaller } from '../support/docker/site-caller.ts';
import { siteOfSuite } from '../support/docker/suite.ts';
import { needs } from '../support/means.ts';
import { refused } from '../support/service/caller.ts';

const FAILED_PRECONDITION = 9;

describe.skipIf(needs('docker'))('a domain', () => {
  const suite = siteOfSuite();

  /** Copies a disk, pivots, and returns the place of the copy. */
  const copyAndPivot = async (caller: SiteCaller, vm: string, to: string): Promise<string> => {
    const { id } = await caller.copy(vm, to, { mibPerSecond: 64 });
    suite.started.push(id);
    await eventuallyAnswers('the copy is ready', 20_000, async () => {
      return (await caller.getInfo(id)).state === Job_State.STATE_READY || undefined;
    });
    const { host, state } = await caller.pivot(id);
    expect(state).toBe(Job_State.STATE_COMPLETED);
    return host;
  };

  it('migrates live: only its new host changes it, and gateways learn it in seconds', async () => {
    const { site } = suite;
    const [h1, h2] = site.hosts;
    const vm = { name: 'mover', uuid: 'aaaaaaaa-0000-4000-8000-000000000001' };
    const disk = `${SHARED}/mover.qcow2`;
    await h1.machine.exec('qemu-img', 'create', '-q', '-f', 'qcow2', disk, '64M');
    await h1.startQemu(vm, disk);
    using caller = await site.caller(site.gateways[0]);
    using old = await site.agent(h1);
    using next = await site.agent(h2);
    await eventuallyAnswers('the gateway knows it', 10_000, async () => await caller.getDomain(vm.name));
    await h2.startQemu(vm, disk, '-incoming', 'tcp:0.0.0.0:4444');
    await eventuallyAnswers('its next host sees it come', 10_000, async () => await next.getDomain(vm.name));
    expect((await caller.getDomain(vm.name)).host).toBe('h1');

    await h1.ask(vm.name, 'migrate', { uri: 'tcp:h2:4444' });
    await eventuallyAnswers('it is on its next host', 10_000, async () => {
      return (await caller.getDomain(vm.name)).host === 'h2' || undefined;
    });
    const refusal = await refused(old.copy(vm.name, `${SHARED}/no.qcow2`, { mibPerSecond: 1 }));
    expect(refusal).toMatchObject({ code: FAILED_PRECONDITION, reason: 'NOT_OWNER' });
    expect(await copyAndPivot(caller, vm.name, `${SHARED}/moved.qcow2`)).toBe('h2');
    expect(await site.observer.ownersOf(vm.uuid)).toMatchObject([{ host: 'h1' }, { host: 'h2' }]);
  });

  it('is started elsewhere when its host is cut off: that host refuses first, and takes nothing back', async () => {
    const { site } = suite;
    const [, h2, h3] = site.hosts;
    const [vm] = h3.vms;
    using caller = await site.caller(site.gateways[0]);
    using old = await site.agent(h3);
    const disk = '/var/lib/images/again.qcow2';
    await h2.machine.exec('qemu-img', 'create', '-q', '-f', 'qcow2', disk, '64M');
    const { id } = await caller.copy(vm.name, '/var/lib/images/left.qcow2', { mibPerSecond: 1 });
    suite.started.push(id);
    await h3.machine.leave(site.networks.hosts);
    await h3.machine.drop(site.networks.owning);
    await h2.startQemu(vm, disk);
    const copy = async () => await old.copy(vm.name, '/var/lib/images/no.qcow2', { mibPerSecond: 1 });
    // Nobody can have the domain while the lease holds: a pivot is refused only for its own reasons.
    await eventuallyAnswers('the host that is cut off refuses', TTL_MS, async () => {
      return (await refused(old.pivot(id))).reason === 'DIRECTORY_UNREACHABLE' || undefined;
    });
    const refusedAt = Date.now();
    await eventuallyAnswers('the other one has it', TTL_MS + 5000, async () => {
      return (await caller.getDomain(vm.name)).host === 'h2' || undefined;
    });
    const owners = await site.observer.ownersOf(vm.uuid);
    expect(owners).toMatchObject([{ host: 'h3' }, { host: 'h2' }]);
    expect(owners[1]?.since).toBeGreaterThan(refusedAt);
    expect((await refused(copy())).reason).toBe('DIRECTORY_UNREACHABLE');
    expect(await copyAndPivot(caller, vm.name, '/var/lib/images/again-moved.qcow2')).toBe('h2');

    await h3.machine.undrop(site.networks.owning);
    await h3.machine.join(site.networks.hosts);
    await eventuallyAnswers('it learns whose it is', 20_000, async () => {
      const { reason, metadata } = await refused(copy());
      return (reason === 'NOT_OWNER' && metadata['owner'] === 'h2') || undefined;
    });
    // A job can be cancelled safely on any host.
    expect((await old.cancel(id)).state).toBe(Job_State.STATE_CANCELLED);
    expect((await caller.getDomain(vm.name)).host).toBe('h2');
    expect((await caller.getDomain(h3.vms[1].name)).host).toBe('h3');
    expect((await site.observer.ownersOf(vm.uuid)).length).toBe(2);
  });

  suite.judge();
});
