/** The log: JSON lines on standard error. Its texts may come from others, so all are cut. Its reader is not waited for. */
import { type Logger, pino } from 'pino';
import { cut, cutError, cutText } from '../lib/cut.ts';
import { defined } from '../lib/defined.ts';
import { Outlet } from './outlet.ts';

/** How long a stuck reader is waited for at the end. */
const LAST_MS = 1000;

export interface Log {
  readonly log: Logger;
  /** How many lines were dropped because the log was not read in time. */
  readonly dropped: () => number;
}

export interface LogOptions {
  readonly level: string;
  /** Fields of each line. */
  readonly mixin?: (() => object) | undefined;
}

export function openLog(options: LogOptions): Log {
  const out = new Outlet(2);
  const log = logInto(out, options);
  out.onGap = (lines) => log.error({ lines }, 'The log was not read in time; lines are missing here');
  endWith(log, out);
  return { log, dropped: () => out.dropped };
}

/** A log whose lines are cut. */
export function logInto(out: { write(line: string): void }, { level, mixin }: LogOptions): Logger {
  return pino(
    {
      level,
      ...defined({ mixin }),
      formatters: { log: fieldsOf, bindings: fieldsOf },
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

/** Node itself would write warnings to a pipe, and wait. */
function endWith(log: Logger, out: Outlet): void {
  process.once('exit', () => out.flush(LAST_MS));
  process.removeAllListeners('warning');
  process.on('warning', (warning) => log.warn({ err: warning }, 'Node reports a warning'));
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'The service has crashed: a bug');
    process.exit(1);
  });
}
