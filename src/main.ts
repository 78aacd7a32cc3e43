#!/usr/bin/env node
import { runCommandLine } from './config.ts';
import { embedded } from './modes/embedded.ts';

try {
  await runCommandLine(process.argv.slice(2), { embedded });
} catch (error) {
  process.stderr.write(`blockjobd: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
