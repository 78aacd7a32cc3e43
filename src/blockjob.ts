#!/usr/bin/env node
/** Starts the command. */
import { EXIT } from './cli/exit.ts';
import { runCommandLine } from './cli/program.ts';
import { Interrupted } from './cli/terminal.ts';

// gRPC names a server by its IP address in TLS, which Node will ignore one day: users need not read that warning.
Object.assign(process, { noDeprecation: true });

const stop = new AbortController();
// The first one ends the watching in order, the next one the process.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(name, () => stop.abort(new Interrupted(name)));
}
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // For example `blockjob jobs | head`.
  if (error.code === 'EPIPE') process.exit(EXIT.unread);
  // Then the result is not known to anybody.
  process.stderr.write(`error: the output cannot be written: ${error.message}\n`);
  process.exit(EXIT.unknown);
});
// Standard error is not the result, and does not change it.
process.stderr.on('error', () => undefined);

process.exitCode = await runCommandLine(process.argv.slice(2), {
  environment: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  signal: stop.signal,
});
