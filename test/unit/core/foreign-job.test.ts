import { describe, expect, it } from 'vitest';
import type { BlockGraph, Disk } from '../../../src/core/disk/chain.ts';
import { diskOfJob, type ForeignJob, NO_FOREIGN_JOBS, together } from '../../../src/core/foreign-job.ts';
import { jobOf } from '../../../src/core/job/names.ts';

const job = (host: string, domain: string, id: string) => ({ host, domain, id }) as ForeignJob;

const graph = (...blockJobs: readonly (readonly string[])[]): Pick<BlockGraph, 'disks'> => ({
  disks: blockJobs.map((jobs, at) => ({ id: `vd${at}`, blockJobs: jobs }) as unknown as Disk),
});

describe('a foreign job', () => {
  it('is on the one disk whose images it uses, and on none if it uses those of several', () => {
    expect(diskOfJob(graph([], ['a', 'b']), 'b')).toBe('vd1');
    expect(diskOfJob(graph(['a'], ['a']), 'a')).toBeUndefined();
    expect(diskOfJob(graph(['a']), 'b')).toBeUndefined();
  });

  it('does not belong to a blockjobd if its id is not such a job, nor a step of one', () => {
    const own = 'bj0123456789abcdef';
    expect([own, `${own}-create`].map(jobOf)).toEqual([own, own]);
    expect([`${own}0`, `x${own}`, 'bj0', 'drive-virtio-disk0', ''].map(jobOf)).toEqual(Array(5).fill(undefined));
  });
});

it('foreign jobs of several places are in the order of host, domain and id, and each domain is named once', () => {
  const [a, b, c, d] = [job('h1', 'vm1', 'y'), job('h1', 'vm2', 'x'), job('h1', 'vm2', 'y'), job('h2', 'vm0', 'a')];
  const first = { foreignJobs: [d, c], unreachableDomains: ['vm9', 'vm3'] };
  const second = { foreignJobs: [a, b], unreachableDomains: ['vm3'] };
  expect(together([first, NO_FOREIGN_JOBS, second])).toEqual({
    foreignJobs: [a, b, c, d],
    unreachableDomains: ['vm3', 'vm9'],
  });
});
