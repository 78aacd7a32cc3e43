/**
 * A copy that is over, with a server that hangs just as its node is closed: QEMU waits for it, and the guest for QEMU.
 */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ImageFormat, Job_State } from '../../generated/blockjob/v1/job.ts';
import { graphOf } from '../support/checks.ts';
import { QmpProxy } from '../support/fake-qemu/qmp-proxy.ts';
import { NbdServer } from '../support/images/nbd-server.ts';
import { needs } from '../support/means.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { makeChain, startQemu, testDir, within } from '../support/real-qemu/qemu.ts';
import { byId } from '../support/service/caller.ts';

/** The limit of docs/pauses.md, and the time to break a connection and to notice that. */
const BOUND_MS = 20_000;

test.skipIf(needs('qemu')).each([
  ['block-job-cancel', 'STATE_FAILED'],
  ['job-dismiss', 'STATE_CANCELLED'],
  ['blockdev-del', 'STATE_CANCELLED'],
] as const)(
  'a server that hangs just before the %s of a copy holds up QEMU for seconds: %s',
  { concurrent: true },
  async (command, state) => {
    await using site = await Site.open(['nbd://127.0.0.1']);
    await using folder = await testDir();
    await using server = await NbdServer.start({ folder: folder.path, sizeBytes: 16 * MIB, over: 'tcp' });
    const chain = await makeChain(folder.path, { formats: ['raw'], sizeBytes: 16 * MIB });
    const name = 'closing';
    await using qemu = await startQemu({ style: 'blockdev', name, disks: [{ id: 'disk0', bus: 'virtio-blk', chain }] });
    let hangs = 0;
    await using _proxy = await QmpProxy.between(join(site.sockets, `${name}.sock`), qemu.qmpPath, async (execute) => {
      if (execute === command) {
        hangs += 1;
        await server.hang();
      }
      return true;
    });
    await site.service.domainUp(name);
    const { id } = await site.service.startCopy({
      disk: { domain: name, disk: 'disk0' },
      destination: { target: { $case: 'nbd', value: server.target }, format: ImageFormat.IMAGE_FORMAT_UNSPECIFIED },
    });
    await site.service.until(id, 'STATE_READY');
    const ended = await within(BOUND_MS, 'the end', site.service.abort({ job: byId(id) }));
    expect(hangs).toBeGreaterThan(0);
    expect(ended.state).toBe(Job_State[state]);
    const { jobs, nodes } = await within(BOUND_MS, 'an answer of QEMU', graphOf(qemu.admin));
    expect(jobs).toEqual([]);
    expect(nodes.filter((node) => node.startsWith(id))).toEqual([]);
  },
);
