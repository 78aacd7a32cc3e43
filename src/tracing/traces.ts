/** Traces, for code that only needs to know whether there are any: src/tracing/open-telemetry.ts is loaded on request. */
import type { Logger } from 'pino';
import type { Observer } from '../lib/observer.ts';

export interface Traces extends AsyncDisposable {
  readonly observer: Observer;
  /** The present span, for lines of the log. */
  ids(): { readonly trace_id?: string; readonly span_id?: string };
  /** Errors of exporting spans are logged there. */
  complainTo(log: Logger): void;
}
