#!/usr/bin/env node
/** Starts the mode that the command line names. */
import './config/file-threads.ts';
import { commandLine } from './config/command-line.ts';
import { HostNameTaken } from './fleet/directory/directory.ts';
import { agent } from './modes/agent.ts';
import { embedded } from './modes/embedded.ts';
import { gateway } from './modes/gateway.ts';
import { say } from './modes/log.ts';

/** sysexits.h, EX_CONFIG: a service manager must not restart it before a person has acted. */
const NEVER_RESTART = 78;

try {
  await commandLine({ embedded, agent, gateway }).parseAsync();
} catch (error) {
  say(`blockjobd: ${error instanceof Error ? error.message : String(error)}\n`, 2);
  process.exitCode = error instanceof HostNameTaken ? NEVER_RESTART : 1;
}
