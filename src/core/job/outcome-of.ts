/** The facts on disk, with the evidence for them: while a job goes on, and at its end. */
import type { Loss } from '../disk/judge.ts';
import { handoverOf } from './handover-of.ts';
import type { ConcludedJob, Job } from './job.ts';
import { hasSucceeded, isUnsynced, isWithoutQemu } from './job-facts.ts';
import type { Evidence, Outcome } from './outcome.ts';
import { setConfigBackTo } from './pivot-gate.ts';
import { restsOnWord, reusedInWords } from './reuse.ts';

const LEFT =
  'the running guest has left it; before you delete it, name the new image in the configuration of the VM, ' +
  'and make sure that no other disk or snapshot uses it';
const COMMITTED =
  'its data is in the image below now, and it no longer matches any point in time; before you delete it, make sure ' +
  'that no other disk or snapshot uses it';

/** As the entry that ended the job has it; before that, as of its last entry. */
export function outcomeOf(job: Job): Outcome {
  return job.ended?.entry === 'ended' ? job.ended.outcome : outcomeSoFar(job);
}

function outcomeSoFar({ accepted, ready, revision, pivotRequested, updateTime }: Job): Outcome {
  const text = ready === undefined ? 'QEMU has not reported READY' : 'QEMU reported READY';
  const contentNow = ready === undefined ? 'PARTIAL' : 'MIRRORED';
  return {
    // In the instant of a pivot either side may be the guest's: the conclusion decides.
    guestWritesTo: pivotRequested ? undefined : accepted.source.path,
    guestAsOf: updateTime,
    destinationContent: accepted.destination && contentNow,
    asOf: undefined,
    destinationRemoved: false,
    safeToDelete: [],
    evidence: [{ source: 'JOURNAL', text, revision: ready?.revision ?? revision }],
  };
}

/** The outcome to be written down for a job that QEMU has concluded, or that is gone from QEMU. */
export function outcomeAtEnd(job: ConcludedJob): Outcome {
  const { concluded } = job;
  const { source, destination, committed, losses = [] } = job.accepted;
  const backTo = setConfigBackTo(job, concluded);
  const known = {
    ...(backTo !== undefined && { setConfigBackTo: backTo }),
    guestWritesTo: concluded.devicePath,
    guestAsOf: concluded.time,
    destinationRemoved: job.madeFile?.created === true && job.steps.get('remove-destination') === 'DONE',
    evidence: [...evidenceOf(job), ...takenOver(job), ...losses.map(inEvidence)],
    asOf: undefined,
  };
  const left = committed
    .filter(({ path }) => path !== source.path && job.steps.get(`delete-${path}`) !== 'DONE')
    .map(({ path }) => ({ path, warning: warningOf(COMMITTED, path, job) }));

  if (destination === undefined) {
    return { ...known, destinationContent: undefined, safeToDelete: hasSucceeded(job) ? left : [] };
  }
  const unknown = { ...known, destinationContent: 'UNKNOWN', safeToDelete: [] } as const;
  // The job failed, and moved the guest nevertheless: a person has to look before either image is touched.
  if (concluded.deviceOn === 'DESTINATION' && concluded.qemuError !== undefined) return unknown;
  if (isUnsynced(job)) return unknown;
  if (concluded.deviceOn === 'DESTINATION') {
    const isDeleted = job.steps.get(`delete-${source.path}`) === 'DONE';
    // The source must not be deleted because of a mistake about the destination.
    const isKept = isDeleted || restsOnWord(job) !== undefined;
    const top = isKept ? [] : [{ path: source.path, warning: warningOf(LEFT, source.path, job) }];
    return { ...known, destinationContent: 'COMPLETE', safeToDelete: [...top, ...left] };
  }
  // Nobody saw the end of the job: it may have pivoted, and more. So nothing is claimed, and nothing is safe to delete.
  if (concluded.how !== 'CONCLUDED') return unknown;
  if (concluded.qemuError === undefined) {
    // Another client may have ended it before we asked. The copy has all writes until it was last seen to follow the
    // guest, or, if it was never seen so, the data from the start of the job.
    const asOf = job.followed?.at ?? (job.accepted.recovered ? undefined : job.createTime);
    if (asOf === undefined) return unknown;
    const evidence = [...followingOf(job), ...known.evidence];
    return { ...known, destinationContent: 'COMPLETE', asOf, evidence, safeToDelete: [] };
  }
  const rubbish = { path: destination.path, warning: 'an incomplete copy that this job made' };
  const isOurs = job.madeFile?.created === true && !known.destinationRemoved && concluded.deviceOn === 'SOURCE';
  return {
    ...known,
    destinationContent: job.ready === undefined ? 'PARTIAL' : 'STALE',
    safeToDelete: isOurs ? [rubbish] : [],
  };
}

/** The previous contents of the destination that are a part of the copy. */
function takenOver(job: Job): readonly Evidence[] {
  const text = reusedInWords(job);
  return text === undefined ? [] : [{ source: 'JOURNAL', text, revision: 1 }];
}

function warningOf(warning: string, path: string, { accepted: { losses = [] } }: Job): string {
  return [warning, ...losses.filter((loss) => loss.path === path).map(({ text }) => `it ${text}`)].join('; ');
}

function inEvidence({ accept, path, text }: Loss): Evidence {
  return { source: 'JOURNAL', text: `${accept} was accepted: ${path} ${text}`, revision: 1 };
}

function followingOf({ followed }: Job): readonly Evidence[] {
  if (followed === undefined) return [];
  return [
    { source: 'QEMU_JOB', text: 'QEMU said READY, and the copy followed the guest', revision: followed.revision },
  ];
}

function evidenceOf(job: ConcludedJob): readonly Evidence[] {
  const { concluded } = job;
  const { revision } = concluded;
  const ended = {
    CONCLUDED:
      concluded.qemuError === undefined
        ? 'QEMU concluded the job without error'
        : `QEMU concluded the job: ${concluded.qemuError}`,
    VANISHED: 'the job was gone from QEMU before its result was read',
    QEMU_ENDED: 'the QEMU process that ran the job has ended',
    GIVEN_UP: 'the QEMU that may still run the job could not be asked when the job was given up',
  }[concluded.how];
  // QEMU keeps no result of a pull: the chain is the result.
  const isInChain = job.accepted.kind === 'PULL' && concluded.how === 'CONCLUDED' && concluded.qemuError === undefined;
  const device =
    concluded.devicePath === undefined
      ? `no device ${job.accepted.disk} was found`
      : `device ${job.accepted.disk} was on ${concluded.devicePath}`;
  const header = headerEvidence(job);
  const isThere = job.steps.get('remove-destination') !== 'DONE';
  const { toSet: all = [] } = job.accepted;
  const toSet = isThere ? all.map((text) => ({ source: 'JOURNAL', text, revision: 1 }) as const) : [];
  const source = isInChain ? 'QEMU_GRAPH' : isWithoutQemu(concluded) ? 'QEMU_PROCESS' : 'QEMU_JOB';
  const text = isInChain ? 'the pulled images are no longer below the active image' : ended;
  return [{ source, text, revision }, { source: 'QEMU_GRAPH', text: device, revision }, ...header, ...toSet];
}

/** The evidence that decides about a pull, or a commit of lower images. */
function headerEvidence({ accepted, concluded: { header, revision } }: ConcludedJob): readonly Evidence[] {
  const handover = handoverOf(accepted);
  if (header === undefined || handover === undefined) return [];
  const { overlay, backingFile } = handover;
  const named = header.is === 'OLD' ? header.backingFile : backingFile;
  const text =
    header.is === 'UNKNOWN'
      ? `the header of ${overlay.path} is not proved to be on disk: ${header.why}`
      : `the header of ${overlay.path}, read back from disk, names ${named === '' ? 'no backing image' : named}`;
  return [{ source: 'FILE_SYSTEM', text, revision }];
}
