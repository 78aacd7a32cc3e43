/** A program behind a QMP socket that is not a QEMU, and pretends to be another VM. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { eventually } from '../support/checks.ts';
import { FakeQemu } from '../support/fake-qemu/fake-qemu.ts';
import { hostilePeer } from '../support/hostile/hostile-peer.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';

const MIB = 1024 * 1024;

describe('a peer that calls itself as another VM', () => {
  test('is reported in the log, and has no domain', async () => {
    await using held = new AsyncDisposableStack();
    const dir = held.use(await testDir());
    const sockets = held.use(await testDir('bj-qmp-')).path;
    const disks = [
      { id: 'disk0', bus: 'virtio-blk', chain: [{ path: join(dir.path, 'a'), format: 'qcow2' }] },
    ] as const;
    const fake = async (file: string) =>
      held.use(await FakeQemu.start({ socketPath: join(sockets, file), name: 'vm', disks, sizeBytes: MIB }));
    await fake('a');
    const service = await Service.start({ dir: dir.path, qmpDir: sockets, allow: [] });
    held.defer(async () => void (await service.stop()));
    await service.domainUp('vm');
    const asked: string[] = [];
    const answers: Readonly<Record<string, unknown>> = {
      'query-name': { name: 'vm' },
      'query-uuid': { UUID: '00000000-0000-0000-0000-000000000000' },
      'query-jobs': [],
      'query-cpus-fast': [],
    };
    held.use(
      await hostilePeer(join(sockets, 'b'), async (socket, { execute, id }) => {
        asked.push(execute);
        socket.write(`${JSON.stringify({ return: answers[execute] ?? {}, id })}\n`);
        await Promise.resolve();
      }),
    );
    await eventually(
      'it is reported',
      () => /audit: another process claims to be a VM of this host/.test(service.log) || undefined,
    );
    // A name of two QEMUs that answer has no owner.
    await expect(service.getDomain('vm')).rejects.toThrow(/names 2 domains/);
    expect(asked.filter((command) => !command.startsWith('query-'))).toEqual([]);
  });
});
