/** A copy by a real libvirt: it is shown, only libvirt ends it, and no job is started beside it. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Operation } from '../../generated/blockjob/v1/domain_service.ts';
import { eventually, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { Libvirt } from '../support/real-qemu/libvirt.ts';
import { makeChain, testDir } from '../support/real-qemu/qemu.ts';
import { refused } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const MIB = 1 << 20;

describe.skipIf(needs('qemu', 'libvirt'))('a VM of a real libvirt', () => {
  test('with a disk that virsh blockcopy copies: the job is shown, and continues whatever is requested here', async () => {
    await using libvirt = await Libvirt.start();
    await using dir = await testDir();
    const [image] = await makeChain(libvirt.dir, { formats: ['qcow2'], sizeBytes: 64 * MIB });
    const { path } = present(image);
    await libvirt.own(path);
    const monitor = join(libvirt.dir, 'second.sock');
    await libvirt.create('web1', path, monitor);
    await using service = await Service.start({
      dir: dir.path,
      qmp: { web1: monitor },
      allow: [dir.path, libvirt.dir],
    });
    await service.domainUp('web1');
    const { disks, uuid } = await service.getDomain('web1');
    const disk = { domain: 'web1', disk: present(disks[0]).name };
    expect((await service.listJobs()).foreignJobs).toEqual([]);

    const copy = join(libvirt.dir, 'copy.qcow2');
    const at = ['--bytes', '65536', '--transient-job'];
    await libvirt.virsh(['blockcopy', 'web1', 'vda', copy, '--format', 'qcow2', ...at]);
    const { jobs, foreignJobs } = await service.listJobs();
    expect(jobs).toEqual([]);
    expect(foreignJobs).toEqual([
      {
        id: expect.stringMatching(/^copy-vda-libvirt-\d+-format$/),
        disk,
        domainUuid: uuid,
        host: 'host-under-test',
        kind: 'mirror',
        status: expect.stringMatching(/^(running|ready)$/),
        current: expect.any(BigInt),
        end: expect.any(BigInt),
        error: '',
        managedByLibvirt: true,
      },
    ]);

    const destination = { target: { $case: 'file', value: join(libvirt.dir, 'ours.qcow2') } } as const;
    const starts = [service.startCopy({ disk, destination }), service.rebase({ disk }), service.commit({ disk })];
    for (const refusal of await Promise.all(starts.map(refused)))
      expect(refusal).toMatchObject({ reason: 'MANAGED_BY_LIBVIRT' });
    const save = { domain: 'web1', operation: Operation.OPERATION_SAVE };
    expect(await service.checkOperation(save)).toMatchObject({ reason: 'BLOCK_COPY_ACTIVE' });
    const named = { name: { $case: 'disk', value: disk } } as const;
    expect(await refused(service.abort({ job: named, force: true }))).toMatchObject({ reason: 'DISK_HAS_NO_JOB' });

    expect((await libvirt.virsh(['dumpxml', 'web1'])).stdout).toContain("<mirror type='file' file=");
    await libvirt.virsh(['blockjob', 'web1', 'vda', '--abort']);
    await eventually('libvirt has ended it', async () =>
      (await service.listJobs()).foreignJobs.length === 0 ? true : undefined,
    );
    expect(await service.checkOperation(save)).toBeUndefined();
  });
});
