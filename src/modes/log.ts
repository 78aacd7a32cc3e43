/**
 * The log: JSON lines on standard error. What is in them others have written in part, and so it is cut, all of it and here;
 * who reads it is never waited for.
 */

import { type Logger, pino } from 'pino';
import { cut, cutError, cutText } from '../lib/cut.ts';
import { defined } from '../lib/defined.ts';
import { Outlet } from './outlet.ts';

/** At the end a reader that is stuck is waited for so long. */
const LAST_MS = 1000;

export interface Log {
  readonly log: Logger;
  /** How many lines have been left out, as nobody read them in time. */
  readonly dropped: () => number;
}

export interface LogOptions {
  readonly level: string;
  /** Belongs to each line. */
  readonly mixin?: (() => object) | undefined;
}

export function openLog(options: LogOptions): Log {
  const out = new Outlet(2);
  const log = logInto(out, options);
  out.onGap = (lines) => log.error({ lines }, 'the log was not read in time, and lines are missing here');
  endWith(log, out);
  return { log, dropped: () => out.dropped };
}

/** A log whose lines are cut. */
export function logInto(out: { write(line: string): void }, { level, mixin }: LogOptions): Logger {
  return pino(
    {
      level,
      ...defined({ mixin }),
      formatters: {
        log: (fields) => fieldsOf(fields),
        bindings: (fields) => fieldsOf(fields),
      },
      serializers: { err: (error: unknown) => (error instanceof Error ? cutError(error) : cut(error)) },
      hooks: {
        logMethod(given, method) {
          const [first, second, ...others] = given as readonly unknown[];
          method.apply(this, [shortText(first), shortText(second), ...others] as typeof given);
        },
      },
    },
    out,
  );
}

/** A line for people, on standard output or error. */
export function say(text: string, to: 1 | 2): void {
  const out = new Outlet(to);
  out.write(text);
  process.once('exit', () => out.flush(LAST_MS));
}

function fieldsOf(fields: object): Record<string, unknown> {
  const errors = Object.entries(fields).filter(([key, value]) => key === 'err' && value instanceof Error);
  return { ...(cut(Object.fromEntries(Object.entries(fields))) as object), ...Object.fromEntries(errors) };
}

function shortText(given: unknown): unknown {
  return typeof given === 'string' ? cutText(given) : given;
}

/** What Node itself would say it writes to a pipe, and waits. */
function endWith(log: Logger, out: Outlet): void {
  process.once('exit', () => out.flush(LAST_MS));
  process.removeAllListeners('warning');
  process.on('warning', (warning) => log.warn({ err: warning }, 'a warning of Node'));
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'the service has crashed: a bug');
    process.exit(1);
  });
}
