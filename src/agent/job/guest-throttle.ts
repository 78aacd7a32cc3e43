/** The limit on the writes of a guest: the only sender of `block_set_io_throttle`. */
import { BlockJobError } from '../../core/errors.ts';
import { isChanged, isOurs, refusedThrottle } from '../../core/job/guest-throttle.ts';
import type { Job } from '../../core/job/job.ts';
import type { Accepted, EntryBody } from '../../core/job/journal-entry.ts';
import type { LiftedBecause } from '../../core/job/throttle-told.ts';
import type { Move } from '../../core/moves/moves.ts';
import { type DiskLimits, limitWrites, NO_EFFECT, readLimits, takeLimitsAway } from '../../core/qemu/limits.ts';
import { Refused } from '../../qmp/errors.ts';
import type { JobLog } from '../journal/job-log.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { guestOf } from './migration.ts';

type Machine = Pick<VirtualMachine, 'execute'>;

export async function limitsIn(machine: Machine): Promise<readonly DiskLimits[]> {
  return readLimits(await machine.execute({ execute: 'query-block' }));
}

type Disk = Pick<Accepted, 'qdev' | 'job' | 'domain' | 'disk' | 'options'>;

async function limitsOf({ qdev }: Pick<Disk, 'qdev'>, machine: Machine): Promise<DiskLimits | undefined> {
  return (await limitsIn(machine)).find((one) => one.qdev === qdev);
}

/** Throws GUEST_LIMIT_SHARED if the guest could not be slowed down. */
export async function refuseOtherLimits(accepted: Disk, machine: Machine): Promise<void> {
  if (accepted.options.endPolicy?.guestThrottle === undefined) return;
  const why = refusedThrottle(await limitsOf(accepted, machine), { accepted });
  if (why !== undefined) throw new BlockJobError(why);
}

/** Rejects with the errors of src/qmp/errors.ts. */
export async function moveThrottle(
  move: Extract<Move, { move: 'throttle' | 'lift-throttle' }>,
  log: JobLog,
  machine: Machine,
): Promise<void> {
  if (move.move === 'lift-throttle') await letGo(log, machine, move);
  else await slowDown(log, machine);
}

/** The entry for a limit that is due: another one if a client limits the disk. Undefined while the guest migrates. */
export async function throttleEntry(due: EntryBody, job: Job, machine: VirtualMachine): Promise<EntryBody | undefined> {
  const [found, { migration }] = await Promise.all([limitsOf(job.accepted, machine), guestOf(machine)]);
  if (migration !== undefined) return undefined;
  if (isChanged(found, job)) return { entry: 'throttle-lifted', because: 'CHANGED' };
  const why = refusedThrottle(found, job);
  return why === undefined ? due : { entry: 'throttle-not-taken', failure: why };
}

async function slowDown(log: JobLog, machine: Machine): Promise<void> {
  const found = await limitsOf(log.job.accepted, machine);
  if (isChanged(found, log.job) || refusedThrottle(found, log.job) !== undefined)
    return await note(log, { entry: 'throttle-lifted', because: 'CHANGED' });
  const { accepted, throttle } = log.job;
  const limitBytesPerSecond = throttle?.limits.at(-1);
  // A request may have made it impossible meanwhile.
  if (limitBytesPerSecond === undefined || throttle?.is !== 'REQUESTED') return;
  try {
    await machine.execute(limitWrites(accepted.qdev, accepted.job, limitBytesPerSecond));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return await letGo(log, machine, { because: 'REFUSED', isGoing: true });
  }
  await note(log, { entry: 'throttled', limitBytesPerSecond });
}

async function letGo(
  log: JobLog,
  machine: Machine,
  { because, isGoing }: { readonly because: LiftedBecause; readonly isGoing: boolean },
): Promise<void> {
  const { accepted, throttle } = log.job;
  const found = await limitsOf(accepted, machine);
  const isThere = found !== undefined && isOurs(found, accepted.job, throttle);
  if (isThere) await liftIn(machine, found, isGoing);
  await note(log, {
    entry: 'throttle-lifted',
    because: isChanged(found, log.job) ? 'CHANGED' : because,
    ...(isThere && isGoing && { hasMark: true }),
  });
}

/** Takes a limit of ours away, or its effect if its job goes on. */
export async function liftIn(machine: Machine, { qdev, group = '' }: DiskLimits, isGoing: boolean): Promise<void> {
  await machine.execute(isGoing ? limitWrites(qdev, group, NO_EFFECT) : takeLimitsAway(qdev));
}

async function note(log: JobLog, entry: EntryBody): Promise<void> {
  await log.offer(entry, { otherwise: () => undefined });
}

/** For a job whose journal is lost: its limit, if QEMU has one, is recorded, and lifted as that of any job. */
export async function noteFoundThrottle(log: JobLog, machine: Machine): Promise<void> {
  const { accepted } = log.job;
  const found = await limitsOf(accepted, machine);
  if (found === undefined || !isOurs(found, accepted.job, undefined)) return;
  const limitBytesPerSecond = found.limits['bps_wr'] ?? 0;
  await log.append({ entry: 'throttle-requested', limitBytesPerSecond });
  await log.append({ entry: 'throttled', limitBytesPerSecond });
}
