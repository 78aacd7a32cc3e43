/** The courses of jobs: each kind, from its start to its end, with the actions of callers and others. */
import { writeFileSync } from 'node:fs';
import type { Started } from '../../../src/core/block-jobs.ts';
import { BlockJobError, type Failure } from '../../../src/core/errors.ts';
import type { Job } from '../../../src/core/job/job.ts';
import type { JobView, PublicJob } from '../../../src/core/job/job-view.ts';
import type { AbortRequest, CommitFlag, CopyRequest, RebaseFlag } from '../../../src/core/requests.ts';
import { qcow2 } from '../images/qcow2-header.ts';
import { copyTo, PATIENT, type TestAgent } from '../service/agent.ts';
import type { FakeQemu } from './fake-qemu.ts';
import { type Scene, type SceneOptions, SIZE_BYTES } from './scene.ts';

export interface Course {
  readonly name: string;
  readonly scene?: SceneOptions;
  /** The state before. */
  readonly before?: (scene: Scene) => void;
  readonly start: (agent: TestAgent, scene: Scene) => Promise<Started>;
  /** The course of the job itself when QEMU runs it. */
  readonly does?: 'becomeReady' | 'reachEnd' | 'fail';
  /** Meanwhile a caller sets another limit, pauses and resumes: each with a request_id, by which it is repeated. */
  readonly changes?: true;
  /** The request of a caller at the end. */
  readonly end?: Partial<AbortRequest>;
  /** The owner of the VM's configuration records the new path: with the request of the end, or by itself before. */
  readonly records?: 'WITH_THE_PIVOT' | 'BEFORE';
  /** The faults on the way. */
  readonly faults?: (qemu: FakeQemu) => void;
  /** QEMU refuses to remove an object. */
  readonly leaves?: true;
  /** The commands that change QEMU, in order, if nothing fails. */
  readonly commands?: readonly string[];
}

const DISK = { domain: 'vm1', disk: 'vd0' };
const PLAIN = { disk: DISK, base: '', bandwidth: 0n, requestId: '', validateOnly: false, planEtag: '', accept: [] };

function copy(more: Partial<CopyRequest> = {}): Course['start'] {
  return async ({ agent }, scene) => await agent.startCopy(copyTo(scene.path('copy'), more), PATIENT);
}

function rebase(base: string, ...flags: readonly RebaseFlag[]): Course['start'] {
  return async ({ agent }, scene) =>
    await agent.rebase({ ...PLAIN, base: base === '' ? '' : scene.path(base), flags, overcommit: false }, PATIENT);
}

function commit(top: string, ...flags: readonly CommitFlag[]): Course['start'] {
  return async ({ agent }, scene) =>
    await agent.commit({ ...PLAIN, top: top === '' ? '' : scene.path(top), flags }, PATIENT);
}

const [ADD, DELETE, MIRROR] = ['blockdev-add', 'blockdev-del', 'blockdev-mirror'] as const;
const RAW = [ADD, ADD, MIRROR];
const QCOW2 = [ADD, 'blockdev-create', 'job-dismiss', ADD, MIRROR];
/** The guest is paused when all open writes are done; a copy stands still meanwhile. */
const HELD = ['transaction', 'stop'];
const HELD_WITH_COPY = ['transaction', 'job-pause', 'stop', 'job-resume'];
const CHANGED = ['block-job-set-speed', 'job-pause', 'job-resume'];
/** After each end of a copy: the job, and the nodes of one of the two sides. */
const CLOSED = ['job-dismiss', DELETE, DELETE];
/** After a pivot of a disk of two images: the nodes of both. */
const LEFT = [...CLOSED, DELETE, DELETE];

/** Flushes a node: before the header that lets go of the old images is written, and after it. */
const FLUSH = 'blockdev-reopen';
const PULL = ['block-stream', FLUSH, 'job-finalize', FLUSH, DELETE, DELETE];

export const COURSES: readonly Course[] = [
  {
    name: 'a raw copy, and its pivot',
    start: copy({ format: 'RAW' }),
    does: 'becomeReady',
    end: { pivot: true },
    commands: [...RAW, 'job-complete', ...LEFT],
  },
  {
    name: 'a qcow2 copy, and its pivot',
    start: copy(),
    does: 'becomeReady',
    end: { pivot: true },
    commands: [...QCOW2, 'job-complete', ...LEFT],
  },
  {
    name: 'a copy whose owner sends the record with the pivot',
    start: copy({ format: 'RAW', configOwner: 'EXTERNAL' }),
    does: 'becomeReady',
    records: 'WITH_THE_PIVOT',
    end: { pivot: true },
    commands: [...RAW, 'job-complete', ...LEFT],
  },
  {
    name: 'a copy that pivots by on_ready when its owner has recorded the new path',
    start: copy({ format: 'RAW', configOwner: 'EXTERNAL', onReady: 'PIVOT' }),
    does: 'becomeReady',
    records: 'BEFORE',
    commands: [...RAW, 'job-complete', ...LEFT],
  },
  {
    name: 'a copy that is ended when its owner has recorded the new path',
    start: copy({ format: 'RAW', configOwner: 'EXTERNAL' }),
    does: 'becomeReady',
    records: 'BEFORE',
    end: {},
    commands: [...RAW, 'block-job-cancel', ...CLOSED],
  },
  {
    name: 'the pivot of an NVMe disk, by on_ready',
    scene: { bus: 'nvme' },
    start: copy({ format: 'RAW', onReady: 'PIVOT' }),
    does: 'becomeReady',
    commands: [...RAW, ...HELD_WITH_COPY, 'job-complete', 'cont', ...LEFT],
  },
  {
    name: 'a copy that finishes by on_ready',
    start: copy({ onReady: 'FINISH' }),
    does: 'becomeReady',
    commands: [...QCOW2, 'block-job-cancel', ...CLOSED],
  },
  {
    name: 'a copy that is ended when it is READY',
    start: copy({ format: 'RAW' }),
    does: 'becomeReady',
    end: {},
    commands: [...RAW, 'block-job-cancel', ...CLOSED],
  },
  {
    name: 'a copy that is ended by force when it is READY',
    start: copy({ format: 'RAW' }),
    does: 'becomeReady',
    end: { force: true },
    commands: [...RAW, 'job-cancel', ...CLOSED],
  },
  {
    name: 'a copy that is cancelled',
    start: copy(),
    end: {},
    commands: [...QCOW2, 'job-cancel', ...CLOSED],
  },
  {
    name: 'a copy that is slowed down, paused, resumed, and then pivoted',
    start: copy({ format: 'RAW' }),
    changes: true,
    does: 'becomeReady',
    end: { pivot: true, requestId: 'end' },
    commands: [...RAW, ...CHANGED, 'job-complete', ...LEFT],
  },
  {
    name: 'a pull that is slowed down, paused, resumed, and then cancelled',
    start: rebase(''),
    changes: true,
    end: { requestId: 'end' },
    commands: ['block-stream', ...CHANGED, 'job-cancel'],
  },
  {
    name: 'a copy into an existing empty file, cancelled',
    before: (scene) => writeFileSync(scene.path('copy'), ''),
    start: copy({ format: 'RAW' }),
    end: {},
    commands: [...RAW, 'job-cancel', ...CLOSED],
  },
  {
    name: 'a blocking copy, cancelled',
    start: copy({ format: 'RAW', writeMode: 'BLOCKING' }),
    end: {},
    commands: [ADD, ADD, ...HELD, MIRROR, 'cont', ...HELD_WITH_COPY, 'job-cancel', 'cont', ...CLOSED],
  },
  {
    name: 'Rebase with SHALLOW: a copy over the image below, and its pivot',
    start: rebase('copy', 'COPY', 'SHALLOW'),
    does: 'becomeReady',
    end: { pivot: true },
    commands: [...QCOW2, 'job-complete', ...CLOSED],
  },
  {
    name: 'Rebase with REUSE_EXT: a copy with a chain of its own, cancelled',
    before: (scene) => {
      const size = BigInt(SIZE_BYTES);
      writeFileSync(scene.path('own'), qcow2({ size }));
      writeFileSync(scene.path('reused'), qcow2({ size, backingFile: scene.path('own'), backingFormat: 'qcow2' }));
    },
    start: rebase('reused', 'COPY', 'SHALLOW', 'REUSE_EXT'),
    end: {},
    commands: [ADD, ADD, ADD, ADD, MIRROR, 'job-cancel', ...LEFT],
  },
  {
    name: 'a pull of the whole chain',
    start: rebase(''),
    does: 'reachEnd',
    commands: PULL,
  },
  {
    name: 'a pull of what is above a base',
    scene: { images: 3 },
    start: rebase('disk-0.qcow2'),
    does: 'reachEnd',
    commands: PULL,
  },
  {
    name: 'a pull that is cancelled',
    start: rebase(''),
    end: {},
    commands: ['block-stream', 'job-cancel'],
  },
  {
    name: 'a commit of a lower image, which is deleted',
    scene: { images: 3 },
    start: commit('disk-1.qcow2', 'DELETE'),
    does: 'reachEnd',
    commands: ['block-commit', FLUSH, 'job-finalize', FLUSH, FLUSH, ...CLOSED],
  },
  {
    name: 'a commit of a lower image that is cancelled',
    scene: { images: 3 },
    start: commit('disk-1.qcow2', 'DELETE'),
    end: {},
    commands: ['block-commit', 'job-cancel', 'job-dismiss'],
  },
  {
    name: 'a commit of the active image, and its pivot',
    start: commit('', 'ACTIVE', 'DELETE'),
    does: 'becomeReady',
    end: { pivot: true },
    commands: ['block-commit', 'job-complete', ...CLOSED],
  },
  {
    name: 'a commit of the active image that is ended without a pivot',
    start: commit('', 'ACTIVE', 'DELETE'),
    does: 'becomeReady',
    end: {},
    commands: ['block-commit', 'block-job-cancel', 'job-dismiss'],
  },
];

const NO = 'said the test';

/** The courses with a fault, so that a start is undone, or an end is requested once more. */
export const FAILED_COURSES: readonly Course[] = [
  {
    name: 'a qcow2 copy whose mirror is refused',
    start: copy(),
    faults: (qemu) => qemu.failNext(MIRROR, NO),
  },
  {
    name: 'a copy whose mirror gives up at once',
    start: copy(),
    faults: (qemu) => qemu.failNextJob(MIRROR, NO),
  },
  {
    name: 'a copy into an empty file that was there, whose mirror is refused',
    before: (scene) => writeFileSync(scene.path('copy'), ''),
    start: copy({ format: 'RAW' }),
    faults: (qemu) => qemu.failNext(MIRROR, NO),
  },
  {
    name: 'a copy, and the answer to blockdev-add is lost',
    start: copy(),
    faults: (qemu) => qemu.dropConnectionAfter(ADD, 2),
  },
  {
    name: 'a copy, and the answers to its mirror, to its end and to what follows are lost',
    start: copy({ onReady: 'PIVOT' }),
    does: 'becomeReady',
    faults: (qemu) => {
      for (const command of [MIRROR, 'job-complete', DELETE]) qemu.dropConnectionAfter(command);
    },
  },
  {
    name: 'a copy, and an undo is refused',
    start: copy(),
    leaves: true,
    faults: (qemu) => {
      qemu.failNext(MIRROR, NO);
      qemu.failNext(DELETE, NO);
    },
  },
  {
    name: 'a copy, and the images that should be closed after its pivot are not',
    start: copy({ format: 'RAW', onReady: 'PIVOT' }),
    does: 'becomeReady',
    faults: (qemu) => qemu.failNext(DELETE, NO),
  },
  { name: 'a copy that fails', start: copy(), does: 'fail' },
  { name: 'a pull that is refused', start: rebase(''), faults: (qemu) => qemu.failNext('block-stream', NO) },
  { name: 'a pull that fails', start: rebase(''), does: 'fail' },
  {
    name: 'a commit whose answer is lost, and which fails',
    scene: { images: 3 },
    start: commit('disk-1.qcow2', 'DELETE'),
    does: 'fail',
    faults: (qemu) => qemu.dropConnectionAfter('block-commit'),
  },
];

/** Continues a job, from any state to its end, as its course says. Undefined if it has been forgotten. */
export async function drive(
  { does, changes, records, end }: Course,
  job: string,
  { agent, qemu, note = () => undefined }: { agent: TestAgent; qemu: FakeQemu; note?: () => void },
): Promise<JobView['job']['state'] | undefined> {
  try {
    await agent.until(job, 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING');
    note();
    const driven = { agent, job, qemu };
    if (changes) await change(driven);
    const inQemu = qemu.anyJob(job);
    const statuses = does === 'fail' ? ['running', 'ready'] : ['running'];
    if (qemu.alive && does !== undefined && inQemu !== undefined && statuses.includes(inQemu.status))
      inQemu[does]('Input/output error');
    if (does === 'becomeReady') await agent.until(job, 'READY', 'PIVOTING', 'CANCELLING');
    note();
    const token = records === undefined ? undefined : await tokenOf(driven);
    const record = token === undefined ? {} : { record: { token } };
    if (records === 'BEFORE') await abort(driven, { pivot: true, recordOnly: token !== undefined, ...record });
    note();
    if (end !== undefined) await abort(driven, end.pivot === true ? { ...end, ...record } : end);
    return await agent.until(job);
  } catch (error) {
    if (error instanceof BlockJobError && error.failure.reason === 'JOB_NOT_FOUND') return undefined;
    throw error;
  }
}

/** The job that is driven, and where. */
interface Driven {
  readonly agent: TestAgent;
  readonly job: string;
  readonly qemu: FakeQemu;
}

/** The refusal, if it is one: the outcome says how the job has ended meanwhile. A QEMU that answers is reached. */
async function refusalOf(ask: () => Promise<unknown>, { alive }: FakeQemu): Promise<Failure | undefined> {
  try {
    await ask();
    return undefined;
  } catch (error) {
    if (!(error instanceof BlockJobError) || (alive && error.failure.reason === 'QEMU_UNREACHABLE')) throw error;
    return error.failure;
  }
}

async function change({ agent: { agent }, job, qemu }: Driven): Promise<void> {
  const named = (requestId: string) => ({ job: { jobId: job }, requestId });
  for (const ask of [
    async () => await agent.setSpeed({ ...named('speed'), bandwidthBytesPerSecond: 77n }, PATIENT),
    async () => await agent.pause(named('pause'), PATIENT),
    async () => await agent.resume(named('resume'), PATIENT),
  ]) {
    await refusalOf(ask, qemu);
  }
}

async function abort(
  { agent: { agent }, job, qemu }: Driven,
  more: Partial<AbortRequest>,
): Promise<Failure | undefined> {
  const plain = { pivot: false, returnImmediately: false, force: false, pauseGuest: undefined, requestId: '' };
  return await refusalOf(async () => await agent.abort({ job: { jobId: job }, ...plain, ...more }, PATIENT), qemu);
}

/** The token of the gate, which is in the refusal of an old client's pivot. Undefined if the job needs no record now. */
async function tokenOf(driven: Driven): Promise<string | undefined> {
  const { job: now } = await driven.agent.agent.getInfo({ jobId: driven.job }, PATIENT);
  if (now.state !== 'READY' || now.pivotGate?.recordTime !== undefined) return now.pivotGate?.token;
  const stale = await abort(driven, { pivot: true, record: { token: 'stale' } });
  const refusal = await abort(driven, { pivot: true });
  if (stale === undefined || refusal === undefined) throw new Error('a pivot without a fitting record was accepted');
  return refusal.metadata['token'];
}

/** The public view of callers, and the whole state in the agent's own process. */
export type WholeJob = Job & PublicJob;

export async function jobsOf({ agent }: TestAgent): Promise<readonly WholeJob[]> {
  const all = { domain: '', states: [], pageSize: 0, pageToken: '' };
  return (await agent.listJobs(all, PATIENT)).items.map(({ job }) => job as WholeJob);
}
