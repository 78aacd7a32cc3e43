#!/usr/bin/env node
import { runCommandLine } from './cli/program.ts';
import { Interrupted } from './cli/terminal.ts';

// gRPC names a server by its IP address in TLS, which Node means to ignore one day: nothing for people to read.
Object.assign(process, { noDeprecation: true });

const stop = new AbortController();
// The first ends the watching, in good order; the next one the process.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(name, () => stop.abort(new Interrupted(name)));
}
// As `blockjob jobs | head` does it.
process.stdout.on('error', () => process.exit(0));

process.exitCode = await runCommandLine(process.argv.slice(2), {
  environment: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  signal: stop.signal,
});
