/** The commands that start jobs, and `plan`, which shows what they would do. */
import { Command } from 'commander';
import { BlockJobError, type Job, Plan } from '../../client/index.ts';
import { EXIT, type ExitCode, worstOf } from '../exit.ts';
import { failureInWords } from '../failure.ts';
import type { CliRun, Run } from '../run.ts';
import { jsonOfError, jsonOfJob } from '../show/json.ts';
import { kindInWords } from '../show/names.ts';
import { planInWords } from '../show/plan.ts';
import { commit } from '../starts/commit.ts';
import { copy } from '../starts/copy.ts';
import { pull, rebase } from '../starts/rebase.ts';
import { addWaiting, type StartCommand, type StartFlags, type WantedJob } from '../starts/start.ts';
import { waitFor } from '../wait.ts';
import { jobIn } from './job.ts';

const STARTS: readonly StartCommand[] = [copy, pull, commit, rebase];

export function startCommands(run: Run): Command[] {
  return STARTS.map((start) => {
    const command = addWaiting(start.define(described(start)));
    if (start.alias !== undefined) command.alias(start.alias);
    return command.action(async () => {
      const flags: StartFlags = command.opts();
      const asked = start.asked(command.args, flags);
      await run(command, 'writes', async (session) => await startAll(session, start, asked, flags));
    });
  });
}

export function planCommand(run: Run): Command {
  const plan = new Command('plan').description('show step by step what a start would do, and change nothing');
  for (const start of STARTS) {
    const command = start.define(described(start));
    plan.addCommand(
      command.action(async () => {
        const asked = start.asked(command.args, command.opts());
        await run(command, 'reads', async (session) => await planAll(session, asked));
      }),
    );
  }
  return plan;
}

function described({ name, summary, example }: StartCommand): Command {
  return new Command(name)
    .description(summary)
    .argument('<domain>', 'the VM, by name or UUID')
    .argument('<disk>', 'the disk, by its device’s id, backend, node or path')
    .addHelpText('after', `\nExample:\n  ${example}`);
}

async function planAll(session: CliRun, asked: readonly WantedJob[]): Promise<ExitCode> {
  const { client, signal } = session;
  for (const one of asked) {
    const { plan } = await one.send(client, true, { signal });
    if (plan === undefined) throw new Error('an answer without a plan');
    session.tell({ type: 'plan', plan: Plan.toJSON(plan) }, planInWords(one.label, plan));
  }
  return EXIT.done;
}

async function startAll(
  session: CliRun,
  start: StartCommand,
  asked: readonly WantedJob[],
  flags: StartFlags,
): Promise<ExitCode> {
  const { pivot, finish, keepOverlay, timeout } = flags;
  const isWaiting = [flags.wait, pivot, finish, keepOverlay, timeout !== undefined].includes(true);
  const started: Job[] = [];
  for (const one of asked) {
    try {
      const job = jobIn(await one.send(session.client, false, { signal: session.signal }));
      started.push(job);
      tellStarted(session, one, job, isWaiting);
    } catch (error) {
      // Jobs that were started continue, and are waited for.
      if (started.length === 0 || !(error instanceof BlockJobError)) throw error;
      const exitCode = tellNotStarted(session, one, error);
      return worstOf([exitCode, isWaiting ? await wait(session, start, started, flags) : EXIT.done]);
    }
  }
  return isWaiting ? await wait(session, start, started, flags) : EXIT.done;
}

/** Some jobs were started before, so `refused` would be wrong. */
function tellNotStarted(session: CliRun, { label }: WantedJob, error: BlockJobError): ExitCode {
  const { lines, next, exitCode: alone } = failureInWords(error);
  const exitCode = alone === EXIT.refused ? EXIT.failed : alone;
  session.tell({ type: 'error', error: jsonOfError(error), next, exitCode }, []);
  for (const line of [`${label}: not started`, ...lines]) session.note(line);
  return exitCode;
}

async function wait(session: CliRun, start: StartCommand, jobs: readonly Job[], flags: StartFlags): Promise<ExitCode> {
  const { async: isAsync = false, verbose: isVerbose = false } = flags;
  return await waitFor(session, jobs, { goal: start.goal(flags), isAsync, isVerbose });
}

function tellStarted(session: CliRun, { label }: WantedJob, job: Job, isWaiting: boolean): void {
  const line = { type: 'job', job: jsonOfJob(job) } as const;
  if (isWaiting) {
    session.tell(line, []);
    session.note(`${label}: ${kindInWords(job.kind)} started, job ${job.id}`);
  } else {
    const watch = `  Watch it:  blockjob watch ${job.id}`;
    session.tell(line, [`${label}: ${kindInWords(job.kind)} started, job ${job.id}`, watch]);
  }
}
