/**
 * CheckOperation: the operations that a job forbids, as the seed restricts save, snapshot, revert and detach while a
 * copy runs.
 */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Operation } from '../../generated/blockjob/v1/domain_service.ts';
import { needs } from '../support/means.ts';
import { makeChain, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const {
  OPERATION_SAVE: SAVE,
  OPERATION_SNAPSHOT: SNAPSHOT,
  OPERATION_REVERT: REVERT,
  OPERATION_DETACH: DETACH,
  OPERATION_RESIZE: RESIZE,
  OPERATION_MIGRATE: MIGRATE,
} = Operation;

describe.skipIf(needs('qemu'))('while a job runs on a disk', { timeout: 60_000 }, () => {
  test('operations that move or need it are forbidden, and none once the job has ended', async () => {
    await using dir = await testDir();
    const chain = await makeChain(dir.path, { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes: 16 << 20 });
    const other = await makeChain(dir.path, { formats: ['raw'], sizeBytes: 1 << 20, prefix: 'other-' });
    await using qemu = await startQemu({
      style: 'blockdev',
      name: 'vm',
      disks: [
        { id: 'vd0', bus: 'virtio-blk', chain },
        { id: 'vd1', bus: 'virtio-scsi', chain: other },
      ],
    });
    await using service = await Service.start({ dir: dir.path, qmp: { vm: qemu.qmpPath }, allow: [dir.path] });
    await service.domainUp('vm');
    const ALL = [
      [SAVE, undefined],
      [SAVE, 'vd1'],
      [REVERT, undefined],
      [MIGRATE, 'vd1'],
      [SNAPSHOT, undefined],
      [SNAPSHOT, 'vd0'],
      [DETACH, 'vd0'],
      [RESIZE, 'vd0'],
    ] as const;
    const ELSEWHERE = [
      [SNAPSHOT, 'vd1'],
      [DETACH, 'vd1'],
      [RESIZE, 'vd1'],
    ] as const;
    const ask = async ([operation, disk]: readonly [Operation, string | undefined]) =>
      await service.checkOperation({ domain: 'vm', operation, ...(disk === undefined ? {} : { disk }) });
    const allAreFine = async () => {
      for (const one of [...ALL, ...ELSEWHERE]) await expect(ask(one)).resolves.toBeUndefined();
    };
    await allAreFine();

    const copy = await service.startCopy({
      disk: { domain: 'vm', disk: 'vd0' },
      destination: { target: { $case: 'file', value: join(dir.path, 'copy.qcow2') } },
      bandwidthBytesPerSecond: BigInt(1 << 20),
    });
    const COPY = { code: 9, reason: 'BLOCK_COPY_ACTIVE', metadata: { domain: 'vm', disk: 'vd0', job: copy.id } };
    for (const one of ALL) expect(await ask(one), String(one)).toMatchObject({ ...COPY, blocking: [copy.id] });
    for (const one of ELSEWHERE) await expect(ask(one)).resolves.toBeUndefined();
    await service.abort({ job: byId(copy.id) });
    await allAreFine();

    // Another client's pull: its job forbids, not one of this service.
    await qemu.admin.execute('block-stream', { 'job-id': 'pull', device: 'vd0-2', speed: 1 << 16 });
    const PULL = { reason: 'BLOCK_JOB_ACTIVE', metadata: { job: 'pull' } };
    for (const one of ALL) expect(await ask(one), String(one)).toMatchObject({ ...PULL, blocking: [] });
    for (const one of ELSEWHERE) await expect(ask(one)).resolves.toBeUndefined();
  });

  test('an invalid question is refused with every wrong field', async () => {
    await using dir = await testDir();
    const chain = await makeChain(dir.path, { formats: ['raw'], sizeBytes: 1 << 20 });
    await using qemu = await startQemu({ style: 'drive', name: 'vm', disks: [{ id: 'vd0', bus: 'ide', chain }] });
    await using service = await Service.start({ dir: dir.path, qmp: { vm: qemu.qmpPath }, allow: [] });
    await service.domainUp('vm');
    const wrong = async (request: Parameters<Service['checkOperation']>[0]) => {
      const { reason, fields } = await refused(service.checkOperation(request));
      return [reason, ...fields];
    };
    expect(await wrong({})).toEqual(['FIELD_INVALID', 'domain', 'operation']);
    expect(await wrong({ domain: 'vm', operation: 99 as Operation })).toEqual(['FIELD_INVALID', 'operation']);
    expect(await wrong({ domain: 'vm', operation: DETACH })).toEqual(['FIELD_INVALID', 'disk']);
    expect(await wrong({ domain: 'vm', operation: SAVE, disk: '' })).toEqual(['FIELD_INVALID', 'disk']);
    expect(await wrong({ domain: 'vm', operation: DETACH, disk: 'nope' })).toEqual(['DISK_NOT_FOUND']);
    expect(await wrong({ domain: 'vm', operation: SAVE, disk: 'nope' })).toEqual(['DISK_NOT_FOUND']);
    expect(await wrong({ domain: 'nobody', operation: SAVE })).toEqual(['DOMAIN_NOT_FOUND']);
  });
});
