/** The commands that show and control jobs. */
import { Command, Option } from 'commander';
import {
  BlockJobError,
  errorOfStatus,
  hasEnded,
  type Job,
  Job_State,
  JobKind,
  type JobRef,
  PauseGuest,
} from '../../client/index.ts';
import { EXIT, type ExitCode } from '../exit.ts';
import type { CliRun, Run } from '../run.ts';
import { bandwidthInWords, diskOf, jobInWords, stateOf } from '../show/job.ts';
import { jsonOfJob, resultLine } from '../show/json.ts';
import { hasPivoted, outcomeInWords } from '../show/outcome.ts';
import { PAUSE_GUEST } from '../starts/copy.ts';
import { UsageError } from '../terminal.ts';
import { bandwidthFrom, parseBandwidth } from '../units.ts';
import { exitCodeOf } from '../wait.ts';

export function jobCommands(run: Run): Command[] {
  return [infoCommand(run), speedCommand(run), ...pausing(run), pivotCommand(run), abortCommand(run)];
}

export function jobIn({ job }: { job?: Job | undefined }): Job {
  if (job === undefined) throw new Error('an answer without a job');
  return job;
}

/** One word is a job's id; two are a disk, and mean its active or latest job. */
export function jobRefOf(words: readonly string[]): JobRef {
  const [first, disk, ...more] = words;
  if (first === undefined || more.length > 0) throw new UsageError('give JOB, or DOMAIN DISK');
  if (disk === undefined) return { name: { $case: 'jobId', value: first } };
  return { name: { $case: 'disk', value: { domain: first, disk } } };
}

function addJob(command: Command): Command {
  return command
    .usage('[options] <job> | <domain> <disk>')
    .argument('<job>', 'the id of the job, or DOMAIN')
    .argument('[disk]', 'with DOMAIN: a disk, for its active or latest job');
}

function infoCommand(run: Run): Command {
  const command = addJob(new Command('info'))
    .description('show a running or ended job: its progress, and the facts on disk')
    .option('--bytes', 'show numbers in bytes')
    .option('--evidence', 'also show the evidence for the outcome');
  return command.action(async () => {
    const { bytes = false, evidence = false }: { bytes?: boolean; evidence?: boolean } = command.opts();
    const ref = jobRefOf(command.args);
    await run(command, 'reads', async (session) => {
      const job = jobIn(await session.client.getInfo({ job: ref }, { signal: session.signal }));
      const outcome = outcomeInWords(job, { withEvidence: evidence });
      session.tell({ type: 'job', job: jsonOfJob(job) }, [...jobInWords(job, { isInBytes: bytes }), ...outcome]);
      return EXIT.done;
    });
  });
}

function speedCommand(run: Run): Command {
  const command = new Command('speed')
    .description('set a job’s speed limit, effective at once')
    .usage('[options] <job> <limit> | <domain> <disk> <limit>')
    .argument('<job>', 'the id of the job, or DOMAIN DISK')
    .argument('<limit...>', 'the limit, such as 100MiB or 1G; a number without a unit is in MiB/s; 0 for no limit')
    .option('--bytes', 'a limit without a unit is in bytes/s');
  return command.action(async () => {
    const { bytes = false }: { bytes?: boolean } = command.opts();
    const limit = parseBandwidth(command.args.at(-1) ?? '');
    const ref = jobRefOf(command.args.slice(0, -1));
    await run(command, 'writes', async (session) => {
      const request = { job: ref, bandwidthBytesPerSecond: bandwidthFrom(limit, bytes) };
      const job = jobIn(await session.client.setSpeed(request, { signal: session.signal }));
      const text = `${diskOf(job)}: speed limit ${bandwidthInWords(job, bytes)}`;
      session.tell({ type: 'job', job: jsonOfJob(job) }, text);
      return EXIT.done;
    });
  });
}

function pausing(run: Run): Command[] {
  const make = (name: 'pause' | 'resume', summary: string) => {
    const command = addJob(new Command(name)).description(summary);
    return command.action(async () => {
      const ref = jobRefOf(command.args);
      await run(command, 'writes', async (session) => {
        const job = jobIn(await session.client[name]({ job: ref }, { signal: session.signal }));
        session.tell({ type: 'job', job: jsonOfJob(job) }, `${diskOf(job)}: ${stateOf(job)}`);
        return EXIT.done;
      });
    });
  };
  return [
    make('pause', 'pause a job; the guest keeps running'),
    make('resume', 'resume a paused job, also one that was paused because space ran out'),
  ];
}

function addPauseGuest(command: Command): Command {
  return command.addOption(
    new Option('--pause-guest <when>', 'whether to pause the guest for the end').choices(Object.keys(PAUSE_GUEST)),
  );
}

interface EndFlags {
  readonly pivot?: boolean;
  readonly async?: boolean;
  readonly force?: boolean;
  readonly recorded?: string;
  readonly recordOnly?: boolean;
  readonly pauseGuest?: keyof typeof PAUSE_GUEST;
}

function pivotCommand(run: Run): Command {
  const command = addPauseGuest(addJob(new Command('pivot')))
    .description('move the guest to the copy of a READY job; waits, and prints the result')
    .option('--async', 'do not wait for the end')
    .option('--recorded <token>', 'the VM’s configuration names the new path now: the token of the job’s gate')
    .option('--record-only', 'with --recorded, only write that down; the pivot is allowed from then on');
  return command.action(async () => {
    const ref = jobRefOf(command.args);
    const { recorded, recordOnly }: EndFlags = command.opts();
    if (recordOnly === true && recorded === undefined) throw new UsageError('--record-only needs --recorded TOKEN');
    await run(command, 'writes', async (session) => await end(session, ref, { ...command.opts(), pivot: true }));
  });
}

function abortCommand(run: Run): Command {
  const command = addPauseGuest(addJob(new Command('abort')))
    .description('end a job without a pivot; the guest stays where it is')
    .option('--async', 'do not wait for the end')
    .option('--force', 'cancel at once, for a destination that hangs: the copy cannot be used then')
    .option('--pivot', 'the same as blockjob pivot');
  return command.action(async () => {
    const ref = jobRefOf(command.args);
    const flags: EndFlags = command.opts();
    if (flags.pivot === true && flags.force === true) throw new UsageError('--pivot and --force exclude each other');
    await run(command, 'writes', async (session) => await end(session, ref, flags));
  });
}

async function end(session: CliRun, ref: JobRef, flags: EndFlags): Promise<ExitCode> {
  const { client, signal } = session;
  const { pivot = false, async: isAsync = false, force = false, pauseGuest, recorded, recordOnly = false } = flags;
  const record = recorded === undefined ? undefined : { token: recorded };
  const pause = pauseGuest === undefined ? PauseGuest.PAUSE_GUEST_UNSPECIFIED : PAUSE_GUEST[pauseGuest];
  try {
    const request = { job: ref, pivot, returnImmediately: isAsync, force, pauseGuest: pause, record, recordOnly };
    return tellEnd(session, jobIn(await client.abort(request, { signal })), pivot);
  } catch (error) {
    // A failed pivot answers with the job's own error: then the job has ended, and the outcome must be printed.
    if (!pivot || !(error instanceof BlockJobError) || !error.isAnswer) throw error;
    const job = await client.getInfo({ job: ref }, { signal }).then(jobIn, () => undefined);
    const isItsEnd = job?.error !== undefined && errorOfStatus(job.error).reason === error.reason;
    if (job === undefined || !isItsEnd || !hasEnded(job.state)) throw error;
    return tellEnd(session, job, pivot);
  }
}

function tellEnd(session: CliRun, job: Job, isPivot: boolean): ExitCode {
  if (!hasEnded(job.state)) {
    const lines = [`${diskOf(job)}: ${stateOf(job)}`, `  How it ends:  blockjob watch ${job.id}`];
    session.tell(resultLine(job, 'ending', EXIT.done), lines);
    return EXIT.done;
  }
  // A copy that was being finished has ended as requested here: the guest stays.
  const isTooLate =
    !isPivot && job.state === Job_State.STATE_COMPLETED && (job.kind !== JobKind.JOB_KIND_COPY || hasPivoted(job));
  const exitCode = isTooLate ? EXIT.failed : exitCodeOf(job, !isPivot);
  const late = isTooLate ? ['Too late to end the job: it had already ended'] : [];
  session.tell(resultLine(job, 'ended', exitCode), [...outcomeInWords(job), ...late]);
  return exitCode;
}
