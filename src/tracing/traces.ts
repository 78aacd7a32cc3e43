/** Traces, for those who only need to know that there are some: src/tracing/open-telemetry.ts is loaded when asked for. */
import type { Logger } from 'pino';
import type { Observer } from '../lib/observer.ts';

export interface Traces extends AsyncDisposable {
  readonly observer: Observer;
  /** Of what goes on now, for lines of the log. */
  ids(): { readonly trace_id?: string; readonly span_id?: string };
  /** Spans that cannot be exported are complained of there. */
  complainTo(log: Logger): void;
}
