/** The steps for a copy that does not end, by the policy that came with its start: one table. */
import { type EndVerdict, willEnd } from '../job/convergence.ts';
import { writeModeOf } from '../job/end-policy.ts';
import { nextThrottle } from '../job/guest-throttle.ts';
import type { Job } from '../job/job.ts';
import { isTimeBound } from '../job/job-facts.ts';
import type { PolicyAction, PolicyStep } from '../job/policy-step.ts';
import type { ThrottleTold } from '../job/throttle-told.ts';
import { sizeInWords, whyNoEnd } from '../job/verdict-words.ts';
import type { EndPolicy } from '../job-options.ts';
import { firstOf, inOrder, type Written } from './rows.ts';

/** The time in which all writes of the guest are as slow as the copy, until the copy is in step. */
const SWITCH_WITHIN_MS = 5000;

export interface Judged {
  readonly verdict: EndVerdict;
  /** For how long the job is known not to end. */
  readonly forMs: number;
  /** For how long it was not tried to slow the guest down; Infinity if it never was. */
  readonly untriedMs: number;
  /** The time until the job's own limit. */
  readonly leftMs: number;
}

interface Due extends Judged {
  readonly job: Job;
  readonly policy: EndPolicy;
}

type Step = Pick<PolicyStep, 'what' | 'because' | 'bandwidthBytesPerSecond'>;

const isNew = ({ job }: Due, what: PolicyAction) => !job.policySteps.some((step) => step.what === what);

const isLate = ({ job, leftMs }: Due) => leftMs <= 0 && isTimeBound(job);

const isPatient = ({ policy, forMs }: Due) => forMs >= policy.patienceMs;

/** QEMU writes the data under way twice, without an answer: before the guest is held, and before it is stopped. */
const UNDER_WAY_WITHIN_MS = 2500;

function stopsSoon({ job, verdict }: Due): boolean {
  const underWay = Math.min(verdict.remainingBytes, job.accepted.options.bufferBytes);
  return underWay * 1000 <= verdict.bytesPerSecond * UNDER_WAY_WITHIN_MS;
}

const isRestIn = ({ verdict }: Due, ms: number) => verdict.remainingBytes * 1000 <= verdict.bytesPerSecond * ms;

function restInWords({ verdict }: Due, ms: number): string {
  return `the rest of ${sizeInWords(verdict.remainingBytes)} is copied within ${ms / 1000} seconds`;
}

function pauses({ job, policy }: Due): boolean {
  const isAtWork = job.state === 'RUNNING' || job.state === 'PIVOTING';
  return policy.atDeadline === 'PAUSE_GUEST' && isAtWork && job.pauseReason === undefined && !job.guestHeld;
}

function mayLift({ job, policy, verdict }: Due): boolean {
  const { bandwidthBytesPerSecond: limit, limitIsOfClient, wantsBandwidth } = job;
  const isOurs = !limitIsOfClient && wantsBandwidth === undefined;
  return isOurs && verdict.because === 'LIMIT' && limit > 0 && limit < policy.ceilingBytesPerSecond;
}

function maySwitch({ job, policy, verdict }: Due): boolean {
  const isOther = writeModeOf(job) === 'BACKGROUND' && !job.guestHeld;
  return policy.switchToBlocking && isOther && verdict.because !== 'NOTHING_COPIED';
}

function maySlowDown({ job, policy, untriedMs }: Due): boolean {
  const isAtWork = job.pauseReason === undefined && !job.guestHeld;
  return isAtWork && writeModeOf(job) === 'BACKGROUND' && untriedMs >= policy.patienceMs;
}

/** A step that cannot help does not fit, so that the next one need not wait. */
const POLICY: Written<Due, Step | ThrottleTold> = {
  'at_deadline HOLD | the time limit has expired | HOLD: the job goes on': (s) =>
    isNew(s, 'HOLD') &&
    s.policy.atDeadline === 'HOLD' &&
    isLate(s) && { what: 'HOLD', because: 'the time limit has expired' },
  'at_deadline PAUSE_GUEST | the time limit has expired, the rest is copied within `max_guest_pause`, and the data under way within 2.5 seconds | PAUSE_GUEST':
    (s) => {
      const { maxGuestPauseMs = 0 } = s.policy;
      return (
        isNew(s, 'PAUSE_GUEST') &&
        pauses(s) &&
        isLate(s) &&
        stopsSoon(s) &&
        isRestIn(s, maxGuestPauseMs) && {
          what: 'PAUSE_GUEST',
          because: `the time limit has expired, and ${restInWords(s, maxGuestPauseMs)}`,
        }
      );
    },
  'its limit holds it back, no client has set it since the start, and it is below the ceiling | does not end for `patience` | LIMIT: the ceiling is the limit':
    (s) =>
      isNew(s, 'LIMIT') &&
      isPatient(s) &&
      mayLift(s) && {
        what: 'LIMIT',
        bandwidthBytesPerSecond: s.policy.ceilingBytesPerSecond,
        because: whyNoEnd(s.verdict),
      },
  'may switch to BLOCKING, and its rest is copied within 5 seconds | does not end for `patience` | BLOCKING': (s) =>
    isNew(s, 'BLOCKING') &&
    isPatient(s) &&
    maySwitch(s) &&
    isRestIn(s, SWITCH_WITHIN_MS) && {
      what: 'BLOCKING',
      because: `${whyNoEnd(s.verdict)}; ${restInWords(s, SWITCH_WITHIN_MS)}`,
    },
  'may slow its guest down, is not paused, and its guest is not held; another patience is over since the last attempt | does not end for `patience`, because of the guest’s writes | records `throttle-requested`, with a lower limit each time; or `throttle-not-taken` if the floor is too high':
    (s) => isPatient(s) && maySlowDown(s) && nextThrottle(s.job, s.verdict),
};

export const POLICY_ROWS = inOrder(POLICY);

/** Since when a job is known not to end, and how many steps were taken before. */
export interface NoEndSince {
  readonly sinceMs: number;
  readonly steps: number;
}

/** Each step begins another time. Undefined for a job that ends, as was written down or is known now. */
export function noEndSince(
  before: NoEndSince | undefined,
  { verdict: written, policySteps, throttle }: Pick<Job, 'verdict' | 'policySteps' | 'throttle'>,
  verdict: EndVerdict,
  nowMs: number,
): NoEndSince | undefined {
  if (written === undefined || willEnd(verdict) || willEnd(written)) return undefined;
  const steps = policySteps.length + (throttle?.limits.length ?? 0);
  return before?.steps === steps ? before : { sinceMs: nowMs, steps };
}

/** The next step of the policy; undefined if none is due, or none helps. Rows of core/moves/next-move carry it out. */
export function policyNews(job: Job, found: Judged): PolicyStep | ThrottleTold | undefined {
  const { endPolicy: policy } = job.accepted.options;
  if (policy === undefined || job.state === 'CANCELLING') return undefined;
  const step = firstOf(POLICY_ROWS, { job, policy, ...found })?.move;
  if (step === undefined || 'entry' in step) return step;
  const { remainingBytes, bytesPerSecond } = found.verdict;
  return { entry: 'policy-step', ...step, remainingBytes, bytesPerSecond };
}
