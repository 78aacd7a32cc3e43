/**
 * The example of a controller that keeps the paths of its VMs in a database: a real SQLite, the real service, a real
 * QEMU. The guest does not move before the database names the new path, also if another client asks for the pivot.
 */
import { cp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { present } from '../support/checks.ts';
import { ConfigurationFile } from '../support/configuration.ts';
import { needs } from '../support/means.ts';
import { makeChain, type Qemu, startQemu, testDir, within } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';
import { Running } from './running.ts';

const MIB = 1 << 20;
/** No copy is READY before its limit is raised. */
const SLOW = String(64 * 1024);
const FOLDER = join(REPOSITORY, '.cache/examples/fenced');

describe.skipIf(needs('qemu', 'by-hand'))('a controller that keeps the paths of its VMs in a database', () => {
  const opened = new AsyncDisposableStack();
  let dir: string;
  let qemu: Qemu;
  let service: Service;
  let configuration: ConfigurationFile;

  const serve = async () => {
    service = await Service.start({ dir, qmp: { vm1: qemu.qmpPath }, allow: [dir] });
    await service.domainUp('vm1');
  };
  const image = async () => (await qemu.admin.block('vd0')).inserted?.file;
  const owner = (destination: string) => {
    const args = [`unix:${dir}/api.sock`, join(dir, 'vms.sqlite'), 'vm1', 'vd0', destination, SLOW];
    return new Running({ program: process.execPath, args: [join(FOLDER, 'fenced-move.js')] }, args);
  };
  /** The id of the job; its owner cannot write into the database before the lock is disposed of. */
  const atGate = async (example: Running, lock: DisposableStack) => {
    const id = present(/^job (\S+)/.exec(await example.says(/^job /))?.[1]);
    lock.use(configuration.lock());
    await service.setSpeed(id, 0n);
    await service.until(id, 'STATE_READY');
    return id;
  };

  beforeAll(async () => {
    // As npm installs it, except for the registry: the client's dependencies are those of this repository.
    await rm(FOLDER, { recursive: true, force: true });
    await cp(join(REPOSITORY, 'examples/node'), FOLDER, { recursive: true });
    await cp(join(REPOSITORY, 'dist/blockjobd-client'), join(FOLDER, 'node_modules/blockjobd-client'), {
      recursive: true,
    });
    ({ path: dir } = opened.use(await testDir()));
    const chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: 8 * MIB });
    const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
    qemu = opened.use(await startQemu({ style: 'blockdev', name: 'vm1', disks }));
    configuration = opened.use(new ConfigurationFile(join(dir, 'vms.sqlite'), String(await image())));
    await serve();
    opened.defer(async () => await service.kill());
  });
  afterAll(async () => await opened.disposeAsync());

  test('records the new path, and only then the guest moves; it and the service may die at the gate', async () => {
    const destination = join(dir, 'moved.qcow2');
    const before = configuration.path;
    using lock = new DisposableStack();
    using first = owner(destination);
    const id = await atGate(first, lock);

    const refusal = await refused(service.abort({ job: byId(id), pivot: true }));
    expect(refusal).toMatchObject({ reason: 'CONFIG_NOT_RECORDED', metadata: { job: id, path: destination } });
    const { token = '' } = refusal.metadata;
    const stale = await refused(service.abort({ job: byId(id), pivot: true, record: { token: `${token}0` } }));
    expect(stale.reason).toBe('CONFIG_RECORD_STALE');
    expect((await service.getInfo(id)).pivotGate).toMatchObject({ token, nextStartPath: destination });

    await service.kill();
    first[Symbol.dispose]();
    await serve();
    expect((await service.getInfo(id)).pivotGate).toMatchObject({ token, recordTime: undefined });
    expect(await image()).toBe(before);
    using second = owner(destination);
    lock.dispose();
    expect(await within(60_000, 'the end of the example', second.ended), second.lines.join('\n')).toBe(0);
    expect(second.lines).toEqual(expect.arrayContaining([`job ${id}`, `recorded ${destination}`]));
    expect([await image(), configuration.path, configuration.moves]).toEqual([destination, destination, 0]);
    const { pivotGate, outcome } = await service.getInfo(id);
    expect(pivotGate?.recordTime).toBeInstanceOf(Date);
    expect(outcome).toMatchObject({ nextStartPath: destination, setConfigBackTo: '' });
  });

  test('sets the path back if the pivot is refused', async () => {
    const destination = join(dir, 'refused.qcow2');
    const before = configuration.path;
    using lock = new DisposableStack();
    using example = owner(destination);
    const id = await atGate(example, lock);
    await rename(destination, `${destination}.away`);
    lock.dispose();
    expect(await within(60_000, 'the end of the example', example.ended), example.lines.join('\n')).toBe(1);
    expect(example.lines).toContain(`recorded ${destination}`);
    expect(example.lines.at(-1)).toMatch(/DESTINATION_MOVED|is no longer the file/);
    expect([await image(), configuration.path, configuration.moves]).toEqual([before, before, 0]);
    expect((await service.getInfo(id)).outcome?.setConfigBackTo).toBe(before);
  });

  test('changes nothing if the copy is refused', async () => {
    const before = configuration.path;
    using example = owner('/not/allowed.qcow2');
    expect(await within(60_000, 'the end of the example', example.ended)).toBe(1);
    expect(example.lines.at(-1)).toMatch(/^refused: /);
    expect([configuration.path, configuration.moves]).toEqual([before, 0]);
  });
});
