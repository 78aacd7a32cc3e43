/** A job, in words. */
import {
  ConfigOwner,
  Convergence,
  type Destination,
  errorOfStatus,
  type ForeignJob,
  hasEnded,
  type Job,
  JobSpace_Level,
  type Progress,
  Progress_Phase,
  toMs,
} from '../../client/index.ts';
import { bytes, duration, speed } from '../units.ts';
import { kindInWords, kindName, pauseName, stateName, stepName } from './names.ts';
import { table } from './table.ts';

/** `web1/virtio0`. */
export function diskOf({ disk }: Job): string {
  return `${disk?.domain ?? '?'}/${disk?.disk ?? '?'}`;
}

/** `45.2 %, 1.2 GiB of 2.7 GiB, 120 MiB/s, 12 s left`. */
export function progressOf({ progress }: Job): string {
  return progress === undefined ? '' : [`${progress.percent.toFixed(1)} %`, ...amountsOf(progress)].join(', ');
}

/** Without the percentage. */
export function amountsOf(progress: Progress): string[] {
  const { currentBytes, endBytes, bytesPerSecond, eta, convergence, verifiedBytes, toVerifyBytes, reason } = progress;
  if (toVerifyBytes > 0n) return [`compared ${bytes(verifiedBytes)} of ${bytes(toVerifyBytes)}`];
  if (progress.phase === Progress_Phase.PHASE_ZEROING) return ['makes the destination empty, and looks for the data'];
  const parts = [`${bytes(currentBytes)} of ${bytes(endBytes)}`];
  if (bytesPerSecond > 0n) parts.push(speed(bytesPerSecond));
  const etaMs = toMs(eta);
  if (etaMs !== undefined && etaMs > 0) parts.push(`${duration(etaMs)} left`);
  // A job that ends in time needs no reason.
  if (reason !== '' && convergence !== Convergence.CONVERGENCE_CONVERGING) parts.push(reason);
  return parts;
}

/** `RUNNING`, `READY, paused: USER`, `RUNNING, guest throttled to 15 MiB/s`, `RUNNING, space low: 2 GiB needed, 1 GiB free`. */
export function stateOf(job: Job): string {
  const { state, pauseReason } = job;
  const space = hasEnded(state) ? '' : spaceInWords(job);
  const paused = pauseReason === 0 ? [] : [`paused: ${pauseName(pauseReason)}`];
  const guest = job.guestThrottle && `guest throttled to ${speed(job.guestThrottle.limitBytesPerSecond)}`;
  return [stateName(state), ...paused, guest ?? [], space === '' ? [] : `space ${space}`].flat().join(', ');
}

export function destinationOf(destination: Destination | undefined): string {
  const target = destination?.target;
  if (target?.$case !== 'nbd') return target?.value ?? '';
  const { server, exportName } = target.value;
  if (server?.$case === 'unixSocket') return `nbd+unix:///${exportName}?socket=${server.value}`;
  return `nbd://${server?.value.host ?? '?'}:${server?.value.port ?? '?'}/${exportName}`;
}

/** `LUKS, secret s0`; '' for none. */
export function encryptionInWords(destination: Destination | undefined): string {
  if (destination?.encryption === undefined) return '';
  return `LUKS, secret ${destination.encryption.secretId || '?'}`;
}

/** `low: 1.2 GiB needed, 700 MiB free`; '' if it is enough, or not known. */
export function spaceInWords({ space }: Job): string {
  if (space === undefined || space.level === JobSpace_Level.LEVEL_ENOUGH) return '';
  const free = space.freeBytes === undefined ? '' : `, ${bytes(space.freeBytes)} free`;
  const level = space.level === JobSpace_Level.LEVEL_FULL ? 'used up' : 'low';
  return `${level}: ${bytes(space.neededBytes)} needed${free}`;
}

/** `throttled by this job to 15 MiB/s since 2026-11-30T18:00:00.000Z`; '' if it is not. */
export function throttleInWords({ guestThrottle: throttle }: Job): string {
  if (throttle === undefined) return '';
  return `throttled by this job to ${speed(throttle.limitBytesPerSecond)} since ${throttle.since?.toISOString() ?? '?'}`;
}

export function bandwidthInWords({ bandwidthBytesPerSecond: limit }: Job, isInBytes: boolean): string {
  if (limit === 0n) return 'none';
  return isInBytes ? `${limit} B/s` : speed(limit);
}

/** Whether a pivot still needs the record of the owner of the VM's configuration. */
export function needsRecord({ configOwner, pivotGate }: Job): boolean {
  return configOwner === ConfigOwner.CONFIG_OWNER_EXTERNAL && pivotGate?.recordTime === undefined;
}

/** The steps before the pivot. Nothing if none is needed, or the gate is not open yet. */
export function gateInWords(job: Job): string[] {
  const { id, pivotGate } = job;
  if (pivotGate === undefined || !needsRecord(job)) return [];
  return [
    `  Before the pivot:     write ${pivotGate.nextStartPath} into the configuration of the VM`,
    `  Then move to it:      blockjob pivot ${id} --recorded ${pivotGate.token}`,
  ];
}

function gateOf({ pivotGate }: Job): string {
  if (pivotGate === undefined) return '';
  const { token, nextStartPath, recordTime } = pivotGate;
  const record = recordTime === undefined ? 'not recorded yet' : `recorded ${recordTime.toISOString()}`;
  return `${token} for ${nextStartPath}, ${record}`;
}

/** '' without an end policy. */
function stepsOf({ endPolicy }: Job): string {
  if (endPolicy === undefined) return '';
  const steps = endPolicy.steps.map(({ kind, reason }) => `${stepName(kind)}, because ${reason}`);
  return steps.length === 0 ? 'no step so far' : steps.join('; ');
}

/** `blockjob info`. */
export function jobInWords(job: Job, { isInBytes }: { isInBytes: boolean }): string[] {
  const { progress } = job;
  const amount = progress && `${progress.currentBytes} of ${progress.endBytes} B`;
  const rows: (readonly [string, string | undefined])[] = [
    ['Job', job.id],
    ['Disk', `${diskOf(job)} on ${job.host}`],
    ['Kind', kindInWords(job.kind)],
    ['State', stateOf(job)],
    ['Progress', isInBytes && progress ? `${progress.percent.toFixed(1)} %, ${amount}` : progressOf(job)],
    ['Verdict', progress?.reason],
    ['Guest', throttleInWords(job)],
    ['Speed limit', hasEnded(job.state) ? undefined : bandwidthInWords(job, isInBytes)],
    ['End policy', stepsOf(job)],
    ['Source', job.sourcePath],
    ['Destination', destinationOf(job.destination)],
    ['Space', hasEnded(job.state) ? undefined : spaceInWords(job)],
    ['Encryption', encryptionInWords(job.destination)],
    ['Base', job.options?.basePath],
    ['Started', job.createTime?.toISOString()],
    ['Ready', job.readyTime?.toISOString()],
    ['Gate', gateOf(job)],
    ['Ended', job.endTime?.toISOString()],
    ['Error', job.error && errorOfStatus(job.error).message],
  ];
  return rows.flatMap(([name, value]) =>
    value === undefined || value === '' ? [] : [`${`${name}:`.padEnd(13)}${value}`],
  );
}

export const JOB_HEADING = ['JOB', 'DISK', 'KIND', 'STATE', 'PROGRESS', 'DESTINATION'];

export function jobRow(job: Job): string[] {
  const percent = job.progress === undefined ? '' : `${job.progress.percent.toFixed(1)} %`;
  return [job.id, diskOf(job), kindName(job.kind), stateOf(job), percent, destinationOf(job.destination)];
}

const FOREIGN_HEADING = ['FOREIGN JOB', 'DISK', 'KIND', 'STATUS', 'PROGRESS', 'BEGUN BY'];

/** Jobs of other clients. Nothing if there are none. */
export function foreignInWords(jobs: readonly ForeignJob[]): string[] {
  if (jobs.length === 0) return [];
  return [
    '',
    'Jobs of other clients, which only those clients can end:',
    ...table(FOREIGN_HEADING, jobs.map(foreignRow)),
  ];
}

function foreignRow(job: ForeignJob): string[] {
  const { domain = '?', disk = '' } = job.disk ?? {};
  const status = job.error === '' ? job.status : `${job.status}: ${job.error}`;
  const by = job.managedByLibvirt ? 'libvirt, most likely' : 'another client';
  return [job.id, disk === '' ? domain : `${domain}/${disk}`, job.kind, status, percentOf(job), by];
}

function percentOf({ current, end }: ForeignJob): string {
  return end === 0n ? '' : `${((Number(current) / Number(end)) * 100).toFixed(1)} %`;
}
