/** A start that is repeated with its request_id after its VM moved to another host. */
import { expect, test } from 'vitest';
import { BlockJobError, failure } from '../../src/core/errors.ts';
import { FakeQemu } from '../support/fake-qemu/fake-qemu.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { copyTo, TestAgent } from '../support/service/agent.ts';

const MOVED = failure('NOT_OWNER', { host: 'host1', domain: 'vm1', owner: 'host2' });

test('an accepted start is answered with its job, whichever host has the VM now; another start is refused', async () => {
  await using dir = await testDir('bj-again-');
  const socketPath = `${dir.path}/qmp.sock`;
  const chain = [{ format: 'qcow2', path: `${dir.path}/disk.qcow2` }] as const;
  const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
  let isOurs = true;
  const mayChange = async () => await (isOurs ? Promise.resolve() : Promise.reject(new BlockJobError(MOVED)));
  const options = { dir: dir.path, qmp: { vm1: socketPath }, allow: [dir.path], mayChange };
  await using _qemu = await FakeQemu.start({ socketPath, name: 'vm1', disks, sizeBytes: 1024 * 1024 });
  await using agent = await TestAgent.start(options);
  const request = copyTo(`${dir.path}/copy`, { format: 'RAW', requestId: 'once' });
  const { job } = await agent.startCopy(request);

  isOurs = false;
  expect((await agent.startCopy(request)).job.accepted.job).toBe(job.accepted.job);
  await expect(agent.startCopy({ ...request, requestId: 'twice' })).rejects.toMatchObject({ failure: MOVED });
});
