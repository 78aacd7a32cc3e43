// The expected result differs between the rows of the tables.
/* oxlint-disable vitest/no-conditional-expect, vitest/expect-expect, unicorn/consistent-function-scoping */
/** The service reports the VMs as QEMU has them, under each of their names. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GuestState } from '../../generated/blockjob/v1/domain_service.ts';
import { ImageFormat, Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventually, expectWell, graphOf, monitorIn, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import {
  type Bus,
  type ChainImage,
  imageInfo,
  makeChain,
  type Qemu,
  type Style,
  startQemu,
  testDir,
} from '../support/real-qemu/qemu.ts';
import { refused } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const MIB = 1 << 20;
const STYLES: readonly Style[] = ['blockdev', 'drive'];
const BUSES: readonly Bus[] = ['virtio-blk', 'virtio-scsi', 'nvme', 'ide'];
const MODELS: Record<Bus, string> = {
  'virtio-blk': 'virtio-blk-pci',
  'virtio-scsi': 'scsi-hd',
  nvme: 'nvme',
  ide: 'ide-hd',
};

describe.skipIf(needs('qemu'))('domains', () => {
  const held = new AsyncDisposableStack();
  let service: Service;
  let sockets: string;
  let images: string;

  beforeAll(async () => {
    const { path } = held.use(await testDir());
    sockets = held.use(await testDir('bj-qmp-')).path;
    images = held.use(await testDir('bj-images-')).path;
    service = held.use(await Service.start({ dir: path, qmpDir: sockets, allow: [images] }));
  });
  afterAll(async () => {
    await held.disposeAsync();
  });

  describe.each(STYLES)('-%s', (style) => {
    const chains = new Map<Bus, ChainImage[]>();
    const vm = new AsyncDisposableStack();
    let qemu: Qemu;

    beforeAll(async () => {
      for (const [index, bus] of BUSES.entries()) {
        const formats = index % 2 === 0 ? (['raw', 'qcow2', 'qcow2'] as const) : (['raw'] as const);
        const sizeBytes = (index + 1) * MIB;
        // As most tools make them, and as in most VMs: one with relative backing file names.
        const relative = index === 2;
        chains.set(bus, await makeChain(images, { formats, sizeBytes, prefix: `${style}-${bus}`, relative }));
      }
      const disks = BUSES.map((bus) => ({ id: bus, bus, chain: present(chains.get(bus)) }));
      const name = `${style} vm, "one"`;
      const extraArgs = monitorIn(sockets, style);
      qemu = vm.use(await startQemu({ style, name, disks: [...disks, { id: 'cd0', empty: true }], extraArgs }));
      await service.domainUp(name);
    });
    afterAll(async () => {
      await vm.disposeAsync();
    });

    test('is listed, with its properties', async () => {
      const { version } = await qemu.admin.execute<{ version: string }>('query-version').then((reply) => {
        const { qemu: v } = reply as unknown as { qemu: { major: number; minor: number; micro: number } };
        return { version: `${v.major}.${v.minor}.${v.micro}` };
      });
      const domain = (await service.listDomains()).find(({ name }) => name === qemu.name);
      expect(domain).toMatchObject({
        uuid: qemu.uuid,
        host: 'host-under-test',
        qemuPid: qemu.pid,
        guestState: GuestState.GUEST_STATE_RUNNING,
        error: undefined,
        disks: [],
      });
      expect(domain?.qemuVersion.startsWith(version)).toBe(true);
      await qemu.admin.execute('stop');
      expect((await service.getDomain(qemu.name)).guestState).toBe(GuestState.GUEST_STATE_PAUSED);
      await qemu.admin.execute('cont');
      expect((await service.getDomain(qemu.name)).guestState).toBe(GuestState.GUEST_STATE_RUNNING);
    });

    test('answers to its name and to its UUID in any case, and to nothing else', async () => {
      const byName = await service.getDomain(qemu.name);
      for (const id of [qemu.uuid, qemu.uuid.toUpperCase()]) expect(await service.getDomain(id)).toEqual(byName);
      for (const id of [qemu.name.toUpperCase(), qemu.uuid.replaceAll('-', ''), style]) {
        expect((await refused(service.getDomain(id))).reason).toBe('DOMAIN_NOT_FOUND');
      }
    });

    test.each(BUSES)('disk on %s: its chain with formats, sizes and nodes', async (bus) => {
      const chain = present(chains.get(bus)).toReversed();
      const { disks } = await service.getDomain(qemu.uuid);
      const disk = present(disks.find(({ qdevId }) => qdevId === bus));
      const block = await qemu.admin.block(bus);
      const top = present(chain[0]);
      const sizeBytes = BigInt((await imageInfo(top.path, top.format))['virtual-size']);
      expect(disk).toMatchObject({
        name: bus,
        blockBackend: style === 'drive' ? `drive-${bus}` : '',
        nodeName: block.inserted?.['node-name'],
        path: top.path,
        deviceModel: MODELS[bus],
        virtualSizeBytes: sizeBytes,
        readOnly: false,
        job: undefined,
      });
      expect(disk.chain.map(({ path, format }) => ({ path, format }))).toEqual(chain);
      const graph = await graphOf(qemu.admin);
      for (const [index, image] of disk.chain.entries()) {
        const info = await imageInfo(image.path, present(chain[index]).format);
        expect(image).toMatchObject({
          index,
          storage: 'file',
          virtualSizeBytes: sizeBytes,
          backingFile: info['backing-filename'] ?? '',
          backingFormat: info['backing-filename-format'] ?? '',
          readOnly: index > 0,
          encrypted: false,
          bitmaps: [],
        });
        expect(graph.nodes).toContain(`${image.storageNodeName} file ${image.path}`);
        expect(graph.edges).toContain(`block-driver ${image.nodeName} --file--> block-driver ${image.storageNodeName}`);
        const below = disk.chain[index + 1];
        if (below !== undefined)
          expect(graph.edges).toContain(`block-driver ${image.nodeName} --backing--> block-driver ${below.nodeName}`);
      }
    });

    test('a drive without a medium is a disk without a chain', async () => {
      const { disks } = await service.getDomain(qemu.name);
      expect(disks.map(({ name }) => name).toSorted()).toEqual([...BUSES, 'cd0'].toSorted());
      expect(disks.find(({ name }) => name === 'cd0')).toMatchObject({
        path: '',
        nodeName: '',
        chain: [],
        virtualSizeBytes: 0n,
        deviceModel: 'ide-cd',
      });
    });

    test.each(BUSES)('disk on %s: each of its names finds it, and its job is shown', async (bus) => {
      const find = async () => present((await service.getDomain(qemu.name)).disks.find(({ name }) => name === bus));
      const { nodeName, path, blockBackend } = await find();
      const addresses = [bus, nodeName, path, ...(blockBackend === '' ? [] : [blockBackend])];
      for (const [index, address] of addresses.entries()) {
        const target = join(images, `${style}-${bus}-copy${index}`);
        const job = await service.startCopy({
          disk: { domain: qemu.name, disk: address },
          destination: { target: { $case: 'file', value: target }, format: ImageFormat.IMAGE_FORMAT_QCOW2 },
          bandwidthBytesPerSecond: 65536n,
        });
        expect(job.disk).toEqual({ domain: qemu.name, disk: bus });
        const shown = await find();
        expect(shown.job).toMatchObject({ id: job.id, state: Job_State.STATE_RUNNING });
        // The mirror's filter is in between, and the disk is the same as before.
        expect(shown).toMatchObject({ nodeName, path });
        for (const name of addresses) {
          const byDisk = { $case: 'disk', value: { domain: qemu.uuid, disk: name } } as const;
          if (name === addresses.at(-1)) await service.abort({ job: { name: byDisk } });
        }
        expect((await find()).job).toBeUndefined();
      }
      expectWell(service);
    });
  });

  test('a QEMU without a name and a UUID is named by its socket', async () => {
    const socket = join(sockets, 'web.1.sock');
    const args = '-machine none -nodefaults -no-user-config -display none -accel tcg'.split(' ');
    const child = spawn('qemu-system-x86_64', [...args, '-qmp', `unix:${socket},server=on,wait=off`], {
      stdio: 'ignore',
    });
    const exited = once(child, 'exit');
    try {
      await service.domainUp('web.1');
      expect(await service.getDomain('web.1')).toMatchObject({ uuid: '', qemuPid: child.pid, disks: [] });
      expect((await service.listDomains()).map(({ name }) => name)).toContain('web.1');
      const zero = '00000000-0000-0000-0000-000000000000';
      expect((await refused(service.getDomain(zero))).reason).toBe('DOMAIN_NOT_FOUND');
    } finally {
      child.kill('SIGTERM');
      await exited;
    }
    await eventually('it is gone', async () =>
      (await refused(service.getDomain('web.1')).catch(() => undefined))?.reason === 'DOMAIN_NOT_FOUND'
        ? true
        : undefined,
    );
  });

  test('the list is by name, in pages', async () => {
    await using stack = new AsyncDisposableStack();
    for (const name of ['c', 'a', 'b']) {
      stack.use(
        await startQemu({
          style: 'drive',
          name: `page-${name}`,
          disks: [],
          extraArgs: monitorIn(sockets, `page-${name}`),
        }),
      );
    }
    for (const name of ['a', 'b', 'c']) await service.domainUp(`page-${name}`);
    const names = (await service.listDomains()).map(({ name }) => name);
    expect(names).toEqual(['page-a', 'page-b', 'page-c']);
  });
});
