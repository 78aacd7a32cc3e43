/** Waits for jobs, and prints how each has ended, or how to continue if the command stops waiting. */
import { BlockJobError, DestinationContent, errorOfStatus, type Job, Job_State } from '../client/index.ts';
import { EXIT, type ExitCode, worstOf } from './exit.ts';
import { failureInWords } from './failure.ts';
import { type Followed, type Following, followJob } from './follow.ts';
import type { CliRun } from './run.ts';
import { displayFor } from './show/displays.ts';
import { diskOf, gateInWords, needsRecord } from './show/job.ts';
import { jsonOfError, resultLine } from './show/json.ts';
import { hasPivoted, headlineOf, outcomeInWords } from './show/outcome.ts';
import type { Goal } from './starts/start.ts';
import { Interrupted } from './terminal.ts';

export interface Waiting extends Following {
  readonly isVerbose: boolean;
}

export async function waitFor(session: CliRun, jobs: readonly Job[], waiting: Waiting): Promise<ExitCode> {
  const display = displayFor(session, waiting);
  let results: PromiseSettledResult<Followed>[];
  try {
    results = await Promise.allSettled(jobs.map(async (job) => await followJob(session, job, waiting, display)));
  } finally {
    display.close();
  }
  const codes = results.map((result, index) => {
    const job = jobs[index];
    if (job === undefined) return EXIT.bug;
    return result.status === 'fulfilled'
      ? tellFollowed(session, result.value, waiting)
      : tellLeft(session, job, result.reason);
  });
  return worstOf(codes);
}

function tellFollowed(session: CliRun, followed: Followed, { goal }: Following): ExitCode {
  const { job, how } = followed;
  if (how === 'ready') {
    const lines = [
      `${headlineOf(job)}; the job continues`,
      ...(needsRecord(job) ? gateInWords(job) : [`  Move to the copy:     blockjob pivot ${job.id}`]),
      `  End without a pivot:  blockjob abort ${job.id}`,
    ];
    session.tell(resultLine(job, 'ready', EXIT.done), lines);
    return EXIT.done;
  }
  const exitCode = how === 'ending' ? exitCodeOfEnding(followed) : exitCodeOfEnd(followed, goal);
  const late = exitCode === EXIT.timedOut ? ['The time limit expired, and the job was cancelled'] : [];
  session.tell(resultLine(job, how, exitCode), [...outcomeInWords(job), ...late]);
  return exitCode;
}

/** Another client may have cancelled it: then the time limit did not expire. */
function exitCodeOfEnding({ job, isLate }: Followed): ExitCode {
  return isLate || job.options?.timeLimit !== undefined ? EXIT.timedOut : EXIT.failed;
}

function exitCodeOfEnd({ job, isLate, isAsked }: Followed, goal: Goal): ExitCode {
  if (goal.keepsGuest && hasPivoted(job)) return EXIT.failed;
  // A job that another client cancelled, before READY or after it, did not make the requested copy.
  const isCopy = job.outcome?.destinationContent === DestinationContent.DESTINATION_CONTENT_COMPLETE;
  const exitCode = exitCodeOf(job, goal.atReady === 'end' && isAsked && isCopy);
  return isLate && exitCode === EXIT.failed && job.state === Job_State.STATE_CANCELLED ? EXIT.timedOut : exitCode;
}

/** For a job that has ended. `isEndAsked`: an end without a pivot was requested. */
export function exitCodeOf(job: Job, isEndAsked: boolean): ExitCode {
  switch (job.state) {
    case Job_State.STATE_COMPLETED:
      return EXIT.done;
    case Job_State.STATE_CANCELLED: {
      const isLate = job.error !== undefined && errorOfStatus(job.error).reason === 'TIME_LIMIT_REACHED';
      if (isLate) return EXIT.timedOut;
      return isEndAsked ? EXIT.done : EXIT.failed;
    }
    case Job_State.STATE_UNRESOLVED:
      return EXIT.unknown;
    default:
      return EXIT.failed;
  }
}

/** The command stops waiting for the job: prints why, and how to continue. */
function tellLeft(session: CliRun, job: Job, why: unknown): ExitCode {
  if (why instanceof Interrupted) {
    const lines = [
      `${diskOf(job)}: Stopped watching; job ${job.id} continues`,
      `  Watch it again:  blockjob watch ${job.id}`,
      `  End it:          blockjob abort ${job.id}`,
    ];
    session.tell(resultLine(job, 'interrupted', EXIT.interrupted), lines);
    return EXIT.interrupted;
  }
  if (!(why instanceof BlockJobError)) throw why;
  const { lines, exitCode } = failureInWords(why);
  session.tell({ ...resultLine(job, 'lost', exitCode), error: jsonOfError(why) }, [
    ...lines,
    `${diskOf(job)}: job ${job.id} continues as far as is known. Watch it again:  blockjob watch ${job.id}`,
  ]);
  return exitCode;
}
