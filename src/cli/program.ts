/** The command line: all commands, which are also the source of the help and of the completion for shells. */
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { BUILD, VERSION } from '../lib/version.ts';
import { checkCommand } from './commands/check.ts';
import { contextCommand } from './commands/context.ts';
import { eventsCommand } from './commands/events.ts';
import { jobCommands } from './commands/job.ts';
import { leftoverCommands } from './commands/leftovers.ts';
import { listCommands } from './commands/lists.ts';
import { serverCommand } from './commands/server.ts';
import { planCommand, startCommands } from './commands/start.ts';
import { watchCommand } from './commands/watch.ts';
import { candidatesFor } from './completion/candidates.ts';
import { completionCommand } from './completion/command.ts';
import { EXIT, type ExitCode } from './exit.ts';
import { runnerIn } from './run.ts';
import { addGlobals } from './settings.ts';
import { type Terminal, UsageError } from './terminal.ts';

const EXIT_CODES = `
Exit codes: 0 done as requested; 2 wrong command line; 3 refused, nothing changed; 4 the job ended differently, or only
a part was done; 5 unknown, look; 6 --timeout expired; 7 no answer; 130 interrupted, the job continues; 141 the reader of
the output is gone. docs/cli.md explains them.`;

/** `ended` gets the exit code of the command. */
export function programIn(terminal: Terminal, ended: (code: ExitCode) => void): Command {
  const run = runnerIn(terminal, ended);
  const program = addGlobals(new Command('blockjob'))
    .description('Moves the disks of running QEMU virtual machines: the command for blockjobd.')
    .version(`blockjob ${VERSION} (${BUILD})`)
    .showHelpAfterError('(blockjob --help shows more)')
    .addHelpText('after', EXIT_CODES);
  const commands = [
    ...startCommands(run),
    ...jobCommands(run),
    watchCommand(run),
    eventsCommand(run),
    ...listCommands(run),
    checkCommand(run),
    serverCommand(run),
    planCommand(run),
    ...leftoverCommands(run),
    contextCommand(terminal),
    completionCommand(terminal),
  ];
  for (const command of commands) program.addCommand(command);
  prepare(program, terminal);
  return program;
}

/** Runs one command line, and returns its exit code. */
export async function runCommandLine(argv: readonly string[], terminal: Terminal): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.done;
  const program = programIn(terminal, (code) => {
    exitCode = code;
  });
  // A shell's question is not a command line: it ends in the middle of a word.
  const [first, ...words] = argv;
  if (first === '__complete') {
    for (const line of await candidatesFor(program, words, terminal)) terminal.stdout.write(`${line}\n`);
    return EXIT.done;
  }
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    // An error while options are read has another class, and has been printed already.
    const isUntold = error instanceof UsageError || error instanceof InvalidArgumentError;
    if (!isUntold && error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    if (!isUntold) throw error;
    terminal.stderr.write(`error: ${error.message}\n`);
    return EXIT.usage;
  }
}

function prepare(command: Command, terminal: Terminal): void {
  command
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
    });
  for (const one of command.commands) prepare(one, terminal);
}
