/**
 * One hold for each VM: if other clients stop and continue a guest while its jobs do, the guest is in the right state
 * at the end.
 */
import { open, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Job_State, OnReady, PauseGuest } from '../../generated/blockjob/v1/job.ts';
import { eventually, monitorIn, present } from '../support/checks.ts';
import { type BeforeCommand, QmpProxy } from '../support/fake-qemu/qmp-proxy.ts';
import { needs } from '../support/means.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { type Admin, makeChain, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { pivoted, type VmOfDisks, vmOfDisks } from '../support/real-qemu/vm-of-disks.ts';
import { byId } from '../support/service/caller.ts';
import type { Service } from '../support/service/service.ts';

const MIB = 1 << 20;
/** More rounds find more: a long run is for `make chaos`. */
const ROUNDS = 8;

let site: Site;

async function runState(admin: Admin): Promise<string> {
  return (await admin.execute<{ status: string }>('query-status')).status;
}

/** One disk, and a test between the service and QEMU. */
async function proxied(before: (admin: Admin) => BeforeCommand): Promise<VmOfDisks> {
  await using started = new AsyncDisposableStack();
  const vm = started.use(await vmOfDisks(1, () => []));
  const { qemu, name } = vm;
  started.use(await QmpProxy.between(join(site.sockets, `${name}.sock`), qemu.qmpPath, before(qemu.admin)));
  await site.service.domainUp(name);
  const kept = started.move();
  return { ...vm, [Symbol.asyncDispose]: async () => await kept.disposeAsync() };
}

/** Copies the disk to a new image until the copy is READY. */
async function copied(service: Service, vm: VmOfDisks, disk: string, name = `${disk}-copy`): Promise<string> {
  const target = { $case: 'file', value: join(vm.dir, name) } as const;
  const { id } = await service.startCopy({ disk: { domain: vm.name, disk }, destination: { target } });
  await service.until(id, 'STATE_READY');
  return id;
}

describe.skipIf(needs('qemu'))('one hold a VM', () => {
  beforeAll(async () => {
    site = await Site.open();
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test(`pivots of four disks at once leave the guest running, ${ROUNDS} times`, async () => {
    await using vm = await vmOfDisks(4, (name) => monitorIn(site.sockets, name));
    const { admin } = vm.qemu;
    await site.service.domainUp(vm.name);
    for (let round = 0; round < ROUNDS; round += 1) {
      const states = await Promise.all(
        vm.disks.map(async (disk) => await pivoted(site.service, vm, disk, `${disk}-r${round}`)),
      );
      expect(states).toEqual(vm.disks.map(() => Job_State.STATE_COMPLETED));
      expect(await runState(admin), `after round ${round}`).toBe('running');
    }
    expect(await readdir(join(site.stateFolder, 'holds'))).toEqual([]);
  });

  test('a guest that another client pauses and resumes just as the service stops it, runs at the end', async () => {
    let stops = 0;
    await using vm = await proxied((admin) => async (execute) => {
      stops += execute === 'stop' ? 1 : 0;
      if (execute === 'stop' && stops === 1) for (const command of ['stop', 'cont']) await admin.execute(command);
      return true;
    });
    expect(await pivoted(site.service, vm, 'disk0')).toBe(Job_State.STATE_COMPLETED);
    expect([stops > 0, await runState(vm.qemu.admin)]).toEqual([true, 'running']);
  });

  test('a guest that another client has paused stays paused', async () => {
    await using vm = await proxied(() => async () => await Promise.resolve(true));
    await vm.qemu.admin.execute('stop');
    expect(await pivoted(site.service, vm, 'disk0')).toBe(Job_State.STATE_COMPLETED);
    expect(await runState(vm.qemu.admin)).toBe('paused');
  });

  test('a guest that another client resumes while it is held, and then pauses, stays paused', async () => {
    let seen = 0;
    await using vm = await proxied((admin) => async (execute) => {
      seen += execute === 'job-complete' ? 1 : 0;
      if (execute === 'job-complete') for (const command of ['cont', 'stop']) await admin.execute(command);
      return true;
    });
    expect(await pivoted(site.service, vm, 'disk0')).toBe(Job_State.STATE_COMPLETED);
    expect([seen, await runState(vm.qemu.admin)]).toEqual([1, 'paused']);
  });

  test('two services on one QEMU, each with pivots, leave the guest running', async () => {
    await using other = await Site.open();
    const second = (name: string) => [
      '-chardev',
      `socket,id=second,path=${join(other.sockets, name)}.sock,server=on,wait=off`,
      '-mon',
      'chardev=second,mode=control',
    ];
    await using vm = await vmOfDisks(4, (name) => [...monitorIn(site.sockets, name), ...second(name)]);
    const services = [site.service, other.service];
    for (const service of services) await service.domainUp(vm.name);
    const copies: { readonly service: Service; readonly id: string }[] = [];
    // One after the other: a service does not know when another one formats an image (src/agent/qemu/formats.ts).
    for (const [index, disk] of vm.disks.entries()) {
      const service = present(services[index % 2]);
      copies.push({ service, id: await copied(service, vm, disk) });
    }
    const states = await Promise.all(
      copies.map(async ({ service, id }) => {
        await service.abort({ job: byId(id), pivot: true, pauseGuest: PauseGuest.PAUSE_GUEST_ALWAYS });
        return (await service.getInfo(id)).state;
      }),
    );
    expect(states).toEqual(vm.disks.map(() => Job_State.STATE_COMPLETED));
    expect(await runState(vm.qemu.admin)).toBe('running');
  });

  test.each(['whole', 'removed', 'damaged'] as const)(
    'a service that is killed while it holds the guest, its journal %s: the next service resumes the guest',
    async (journal) => {
      const killed = Promise.withResolvers<void>();
      let isKilled = false;
      await using vm = await proxied(() => async (execute) => {
        if (execute !== 'job-complete' || isKilled) return true;
        isKilled = true;
        killed.resolve();
        return await Promise.resolve(false);
      });
      const id = await copied(site.service, vm, 'disk0');
      const pauseGuest = PauseGuest.PAUSE_GUEST_ALWAYS;
      await site.service.abort({ job: byId(id), pivot: true, returnImmediately: true, pauseGuest });
      await killed.promise;
      expect(await runState(vm.qemu.admin)).toBe('paused');
      site.complaints = /A journal cannot be used/;
      const path = join(site.stateFolder, 'jobs', `${id}.jsonl`);
      await site.restart('SIGKILL', vm.name, async () => {
        expect(await readdir(join(site.stateFolder, 'holds'))).toHaveLength(1);
        if (journal === 'removed') await rm(path);
        if (journal === 'damaged') await writeFile(path, '00000000 {}\n00000000 {}\n');
      });
      await eventually('the guest runs', async () =>
        (await runState(vm.qemu.admin)) === 'running' ? true : undefined,
      );
      const ending = journal === 'whole' ? 'STATE_COMPLETED' : 'STATE_READY';
      await site.service.until(id, ending);
      if (journal !== 'whole') await site.service.abort({ job: byId(id) });
    },
  );

  /** Real mode, from the first sector: asks the chipset for ACPI S3 (SLP_TYP 1, SLP_EN), and waits for a wake-up. */
  const SLEEP = Buffer.from([0xba, 0x04, 0x06, 0xb8, 0x00, 0x24, 0xef, 0xf4, 0xeb, 0xfd]);

  test.each(['a pull', 'a pivot with the guest paused'])(
    'a guest that sleeps (ACPI S3) still sleeps after %s',
    async (what) => {
      await using started = new AsyncDisposableStack();
      const { path: dir } = started.use(await testDir());
      const chain = await makeChain(dir, { formats: ['raw', 'qcow2'], sizeBytes: 4 * MIB, pattern: false });
      const sector = Buffer.alloc(512);
      SLEEP.copy(sector);
      sector.writeUInt16BE(0x55aa, 510);
      await using base = await open(present(chain[0]).path, 'r+');
      await base.write(sector, 0, sector.length, 0);
      const name = `h${dir.slice(-6)}`;
      const disks = [{ id: 'disk0', bus: 'virtio-blk', chain }] as const;
      const extraArgs = ['-global', 'ICH9-LPC.disable_s3=0', ...monitorIn(site.sockets, name)];
      const qemu = started.use(await startQemu({ style: 'blockdev', name, disks, extraArgs }));
      await eventually('it sleeps', async () => ((await runState(qemu.admin)) === 'suspended' ? true : undefined));
      await site.service.domainUp(name);
      const disk = { domain: name, disk: 'disk0' };
      const target = { $case: 'file', value: join(dir, 'copy') } as const;
      const start = async () =>
        what === 'a pull'
          ? await site.service.rebase({ disk })
          : await site.service.startCopy({
              disk,
              destination: { target },
              onReady: OnReady.ON_READY_PIVOT,
              pauseGuest: PauseGuest.PAUSE_GUEST_ALWAYS,
            });
      expect((await site.ended(await start())).state).toBe(Job_State.STATE_COMPLETED);
      expect(await runState(qemu.admin)).toBe('suspended');
      await qemu.admin.execute('system_wakeup');
      expect(['running', 'suspended']).toContain(await runState(qemu.admin));
      expect(qemu.admin.events.map(({ event }) => event)).toContain('WAKEUP');
    },
  );
});
