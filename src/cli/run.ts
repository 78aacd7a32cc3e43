/** One run of a command: connects, does its work, prints results, and turns any into an exit code. */
import type { Command } from 'commander';
import { BlockJobClient, BlockJobError, type ConnectOptions } from '../client/index.ts';
import { EXIT, type ExitCode } from './exit.ts';
import { failureInWords } from './failure.ts';
import { connectionOf, type GlobalFlags } from './settings.ts';
import { jsonOfError, type Line } from './show/json.ts';
import { visible } from './show/visible.ts';
import { Interrupted, type Terminal, UsageError } from './terminal.ts';

/** A running command: its service, and the output of its results. */
export class CliRun {
  readonly client: BlockJobClient;
  readonly isJson: boolean;
  readonly terminal: Terminal;

  constructor(client: BlockJobClient, isJson: boolean, terminal: Terminal) {
    this.client = client;
    this.isJson = isJson;
    this.terminal = terminal;
  }

  /** Aborted by Ctrl-C. */
  get signal(): AbortSignal {
    return this.terminal.signal;
  }

  /** Prints a result: for programs an object, for people lines. */
  tell(line: Line, text: string | readonly string[]): void {
    const lines = typeof text === 'string' ? [text] : text;
    const said = this.isJson ? [JSON.stringify(line)] : lines;
    for (const one of said) this.terminal.stdout.write(`${visible(one)}\n`);
  }

  /** Prints a line for people, beside the result. */
  note(text: string): void {
    if (!this.isJson) this.terminal.stderr.write(`${visible(text)}\n`);
  }
}

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
    session.tell({ type: 'error', error: jsonOfError(error), next, exitCode }, []);
    for (const line of lines) session.note(line);
    return exitCode;
  }
  if (error instanceof Interrupted) {
    const isOpen = kind === 'writes' ? '; the request may have been carried out nevertheless: blockjob jobs' : '';
    const text = `interrupted${isOpen}`;
    const exitCode = EXIT.interrupted;
    session.tell({ type: 'error', error: { code: 'CANCELLED', text }, exitCode }, []);
    session.note(text);
    return exitCode;
  }
  if (error instanceof UsageError) throw error;
  session.terminal.stderr.write(
    `blockjob: a bug of this command: ${error instanceof Error ? error.stack : String(error)}\n`,
  );
  return EXIT.bug;
}
