/** A service that meets a QEMU whose storage hangs, before it has looked at its jobs there. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ImageFormat, Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventually } from '../support/checks.ts';
import { QmpProxy } from '../support/fake-qemu/qmp-proxy.ts';
import { NbdServer } from '../support/images/nbd-server.ts';
import { needs } from '../support/means.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { makeChain, startQemu, testDir, within } from '../support/real-qemu/qemu.ts';

/** The limit of docs/pauses.md, and the time to break a connection and to notice that. */
const BOUND_MS = 20_000;
/** The identity of a QEMU; after that a job is looked at. */
const ASKED_FIRST = ['qmp_capabilities', 'query-name', 'query-uuid', 'query-jobs', 'query-cpus-fast'];

test.skipIf(needs('qemu'))(
  'another client waits for all storage just when a service comes, and a copy hangs: the guest waits for seconds',
  async () => {
    await using site = await Site.open(['nbd://127.0.0.1']);
    await using folder = await testDir();
    await using server = await NbdServer.start({ folder: folder.path, sizeBytes: 16 * MIB, over: 'tcp' });
    const ids = ['disk0', 'disk1'] as const;
    const disks = await Promise.all(
      ids.map(async (id) => {
        const chain = await makeChain(folder.path, { formats: ['raw'], sizeBytes: 16 * MIB, prefix: id });
        return { id, bus: 'virtio-blk', chain } as const;
      }),
    );
    const name = 'hanging';
    await using qemu = await startQemu({ style: 'blockdev', name, disks });
    // A snapshot of the other disk; QEMU waits for all requests to any disk.
    const snapshot = {
      'node-name': 'disk1-0',
      'snapshot-file': join(folder.path, 'snap'),
      'snapshot-node-name': 'snap',
    };
    let waits: Promise<unknown> | undefined;
    let comes = false;
    await using _proxy = await QmpProxy.between(join(site.sockets, `${name}.sock`), qemu.qmpPath, async (execute) => {
      if (comes && !ASKED_FIRST.includes(execute)) waits ??= qemu.admin.execute('blockdev-snapshot-sync', snapshot);
      return await Promise.resolve(true);
    });
    await site.service.domainUp(name);
    const { id } = await site.service.startCopy({
      disk: { domain: name, disk: 'disk0' },
      destination: { target: { $case: 'nbd', value: server.target }, format: ImageFormat.IMAGE_FORMAT_UNSPECIFIED },
    });
    await site.service.until(id, 'STATE_READY');
    await site.restart('SIGKILL', undefined, async () => {
      await server.hang();
      // Requests that it has now are not answered.
      await qemu.admin.hmpQemuIo('disk0', `write -P 1 0 ${MIB}`);
      comes = true;
    });
    const waiting = await eventually('it has come', async () => {
      return await Promise.resolve(waits && { done: waits });
    });
    await within(BOUND_MS, 'the guest goes on', waiting.done);
    await site.service.until(id, 'STATE_FAILED');
    const { state, outcome } = await site.service.getInfo(id);
    expect([state, outcome?.guestWritesTo]).toEqual([Job_State.STATE_FAILED, disks[0]?.chain[0]?.path]);
  },
);
