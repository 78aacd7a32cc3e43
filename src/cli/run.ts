/** Runs one command: connects, does its work, and turns any result into an exit code. */
import type { Command } from 'commander';
import { BlockJobClient, BlockJobError, type ConnectOptions } from '../client/index.ts';
import { EXIT, type ExitCode } from './exit.ts';
import { failureInWords } from './failure.ts';
import { CliRun } from './session.ts';
import { connectionOf, type GlobalFlags } from './settings.ts';
import { jsonOfError } from './show/json.ts';
import { Interrupted, type Terminal, UsageError } from './terminal.ts';

/** A command that `writes` may have been carried out even if nobody waited for the answer. */
export type Run = (
  command: Command,
  kind: 'reads' | 'writes',
  work: (session: CliRun) => Promise<ExitCode>,
) => Promise<void>;

/** `ended` gets the exit code. */
export function runnerIn(terminal: Terminal, ended: (code: ExitCode) => void): Run {
  return async (command, kind, work) => {
    const flags: GlobalFlags = command.optsWithGlobals();
    using client = clientOf(await connectionOf(flags, terminal));
    const session = new CliRun(client, flags.output === 'json', terminal);
    try {
      ended(await work(session));
    } catch (error) {
      ended(tell(session, kind, error));
    }
  };
}

/** A certificate file that cannot be read is an error of the command line, too. */
function clientOf(options: ConnectOptions): BlockJobClient {
  try {
    return new BlockJobClient(options);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function tell(session: CliRun, kind: 'reads' | 'writes', error: unknown): ExitCode {
  if (error instanceof BlockJobError) {
    const { lines, next, exitCode } = failureInWords(error);
    if (session.isJson) session.tell({ type: 'error', error: jsonOfError(error), next, exitCode }, []);
    for (const line of lines) session.note(line);
    return exitCode;
  }
  if (error instanceof Interrupted) {
    const isOpen = kind === 'writes' ? '; the request may have been carried out nevertheless: blockjob jobs' : '';
    const text = `interrupted${isOpen}`;
    const exitCode = EXIT.interrupted;
    if (session.isJson) session.tell({ type: 'error', error: { code: 'CANCELLED', text }, exitCode }, []);
    session.note(text);
    return exitCode;
  }
  if (error instanceof UsageError) throw error;
  session.terminal.stderr.write(
    `blockjob: a bug of this command: ${error instanceof Error ? error.stack : String(error)}\n`,
  );
  return EXIT.bug;
}
