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

/** QEMU reports the end of a part, and is asked for the progress. This is also how long a missed end stays unnoticed. */
const LOOK_AGAIN_MS = 500;

export interface Comparing {
  /** Throws if the comparison must stop. */
  readonly mayGoOn: () => void;
  readonly onProgress: (doneBytes: number, ofBytes: number) => void;
  /** Rejects if the result must not count. */
  readonly whenEqual: () => Promise<void>;
}

/** Returns if all is equal. Throws REUSED_DIFFERS, or an error of `mayGoOn`. */
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

/** False if QEMU could not, or would not, read all of the part. */
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
      // Beyond READY it has read everything.
      if (job.status === 'ready' || job.status === 'standby') return true;
      if (job.status === 'concluded') {
        // Unreadable data is not a difference.
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

/** Also if there is none. */
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

/** Throws PLAN_CHANGED if another client has changed what was compared. */
export async function refuseOtherChain({ qdev, plan, source }: Accepted, machine: VirtualMachine): Promise<void> {
  const compared = plan.find(({ run }) => run.do === 'compare')?.run;
  const [top, below] = (await machine.graph()).disks.find((disk) => disk.qdev === qdev)?.chain ?? [];
  const isSame = compared?.do === 'compare' && below?.node === compared.comparison.backing.node;
  if (top?.node === source.node && isSame) return;
  fail('PLAN_CHANGED', { why: 'the chain of the disk changed while its backing image was compared' });
}
