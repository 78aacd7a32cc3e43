/** Has QEMU compare two of its nodes, part by part, and finds where they begin to differ. */

import { SECTOR_BYTES } from '../../core/disk/sectors.ts';
import { LOOK } from '../../core/errno.ts';
import { fail } from '../../core/errors.ts';
import {
  type Comparison,
  comparisonNames,
  comparisonNodes,
  firstDifference,
  type Part,
  partsOf,
  readPart,
  type Sides,
} from '../../core/job/comparison.ts';
import type { Accepted } from '../../core/job/journal-entry.ts';
import { isNoSuchNode } from './failures.ts';
import { endJob } from './qemu-jobs.ts';
import type { VirtualMachine } from './virtual-machine.ts';

/** QEMU tells when a part has been read; and how far it is, it is asked. Also for this long an end is not heard of. */
const LOOK_AGAIN_MS = 500;

export interface Comparing {
  /** Throws where it is not to be gone on with. */
  readonly mayGoOn: () => void;
  readonly onProgress: (doneBytes: number, ofBytes: number) => void;
  /** Rejects where nothing is to follow from it that all is equal. */
  readonly whenEqual: () => Promise<void>;
}

/** Returns where all is equal. Throws REUSED_DIFFERS, or what `mayGoOn` throws. */
export async function compare(comparison: Comparison, machine: VirtualMachine, comparing: Comparing): Promise<void> {
  const { destination, backing } = comparison;
  const isRead = async (part: Part, sides: Sides) => await read(comparison, part, sides, machine, comparing);
  for (const part of partsOf(comparison)) {
    if (await isRead(part, 'BOTH')) continue;
    const quiet = { ...comparing, onProgress: () => undefined };
    const { offset } = await firstDifference(
      part,
      async (half) => !(await read(comparison, half, 'BOTH', machine, quiet)),
    );
    const sector: Part = { ...part, offset, bytes: Math.min(part.bytes, SECTOR_BYTES) };
    for (const [side, { path }] of [
      ['DESTINATION', destination],
      ['BACKING', backing],
    ] as const) {
      const doing = `comparing: reading ${path} at byte ${offset}`;
      if (!(await isRead(sector, side))) fail('STORAGE_FAILED', { doing, why: 'Input/output error', wayOut: LOOK });
    }
    if (await isRead(sector, 'BOTH')) broken(comparison, `byte ${offset} could be read only now`);
    fail('REUSED_DIFFERS', { path: destination.path, backing: backing.path, offset });
  }
  await comparing.whenEqual();
}

function broken({ destination: { path } }: Comparison, why: string): never {
  fail('VERIFY_BROKEN_OFF', { path, why });
}

/** False: QEMU could not, or would not, read all of the part. */
async function read(
  comparison: Comparison,
  part: Part,
  sides: Sides,
  machine: VirtualMachine,
  { mayGoOn, onProgress }: Comparing,
): Promise<boolean> {
  const { qemuJob } = comparisonNames(comparison.job);
  try {
    mayGoOn();
    for (const command of readPart(comparison, part, sides)) await machine.execute(command);
    for (;;) {
      mayGoOn();
      const before = machine.wake.now;
      const [jobs, blockJobs] = await Promise.all([machine.jobs(), machine.blockJobs()]);
      const job = jobs.find(({ id }) => id === qemuJob);
      if (job === undefined) broken(comparison, 'another client ended it');
      // Beyond READY it has read all.
      if (job.status === 'ready' || job.status === 'standby') return true;
      if (job.status === 'concluded') {
        // What could not be read is no difference that anybody asked for.
        if (job.error === undefined || /cancel/i.test(job.error)) broken(comparison, 'another client ended it');
        return false;
      }
      const readBytes = blockJobs.find(({ id }) => id === qemuJob)?.offsetBytes ?? 0;
      onProgress(part.offset + Math.min(readBytes, part.bytes), comparison.destination.bytes);
      await machine.wake.after(before, { timeoutMs: LOOK_AGAIN_MS });
    }
  } finally {
    await endComparison(comparison.job, machine);
  }
}

/** Also where there is none. */
export async function endComparison(job: string, machine: VirtualMachine): Promise<void> {
  await endJob(machine, comparisonNames(job).qemuJob);
  for (const node of comparisonNodes(job)) {
    try {
      await machine.execute({ execute: 'blockdev-del', arguments: { 'node-name': node } });
    } catch (error) {
      if (!isNoSuchNode(error)) throw error;
    }
  }
}

/** Throws PLAN_CHANGED where another client has changed what the comparison was good for. */
export async function refuseOtherChain({ qdev, plan, source }: Accepted, machine: VirtualMachine): Promise<void> {
  const compared = plan.find(({ run }) => run.do === 'compare')?.run;
  const [top, below] = (await machine.graph()).disks.find((disk) => disk.qdev === qdev)?.chain ?? [];
  const isSame = compared?.do === 'compare' && below?.node === compared.comparison.backing.node;
  if (top?.node === source.node && isSame) return;
  fail('PLAN_CHANGED', { why: 'the chain of the disk has become another one while its backing image was compared' });
}
