/**
 * Spans of OpenTelemetry. The SDK reads all the standard variables itself; this file says what becomes a span:
 *
 *   StartCopy (server) ──► StartCopy (client, a gateway's) ──traceparent──► StartCopy (server, the agent's)
 *                                              step add-destination ◄──────────┤
 *                                                └── QMP blockdev-add          └──► QMP query-jobs …
 */

import {
  type Attributes,
  type Context,
  context,
  createContextKey,
  DiagLogLevel,
  diag,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import { NodeSDK } from '@opentelemetry/sdk-node';
import type { Logger } from 'pino';
import { codeOf } from '../core/errors.ts';
import { defined } from '../lib/defined.ts';
import type { Doing, Observer } from '../lib/observer.ts';
import { inTime } from '../lib/timer.ts';
import type { Traces } from './traces.ts';

/** The collector may be away, and is not waited for at the end. */
const FLUSH_MS = 2000;

/** Set if no spans are made any more: work for a stream has no end, and is done for all watchers. */
const NO_MORE = createContextKey('blockjobd: no more spans');

export interface TracesOptions {
  readonly version: string;
  /** Undefined if the variables name it. */
  readonly serviceName: string | undefined;
}

export function openTraces({ version, serviceName }: TracesOptions): Traces {
  const sdk = new NodeSDK({
    // Only traces, out of the three signals: metrics belong to Prometheus, logs are on standard error.
    metricReaders: [],
    logRecordProcessors: [],
    ...defined({ serviceName }),
  });
  sdk.start();
  return {
    observer: new Spans(version),
    ids: () => {
      const found = trace.getSpanContext(context.active());
      return found === undefined ? {} : { trace_id: found.traceId, span_id: found.spanId };
    },
    complainTo: (log) =>
      diag.setLogger(complaints(log), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true }),
    [Symbol.asyncDispose]: async () => {
      const isSent = await inTime(
        sdk.shutdown().then(() => true),
        FLUSH_MS,
      );
      // The exporter repeats for ten seconds, and keeps the process alive for as long.
      if (isSent !== true) setImmediate(() => process.exit());
    },
  };
}

const nothing = () => undefined;

function complaints(log: Logger) {
  const say = (why: string) => log.warn({ why }, 'Traces cannot be exported');
  return { error: say, warn: say, info: nothing, debug: nothing, verbose: nothing };
}

class Spans implements Observer {
  readonly #tracer;

  constructor(version: string) {
    this.#tracer = trace.getTracer('blockjobd', version);
  }

  async during<T>(doing: Doing, work: () => Promise<T>): Promise<T> {
    switch (doing.does) {
      case 'serve': {
        const { rpc, header, isStream } = doing;
        const from = propagation.extract(ROOT_CONTEXT, header, { get: (read, key) => read(key), keys: () => [] });
        const span = this.#tracer.startSpan(rpc, { kind: SpanKind.SERVER, attributes: rpcAttributes(rpc) }, from);
        const within = trace.setSpan(from, span);
        return await ending(span, isStream ? within.setValue(NO_MORE, true) : within, work);
      }
      case 'ask': {
        const { rpc, host, setHeader } = doing;
        const attributes = { ...rpcAttributes(rpc), 'server.address': host };
        return await this.#below(rpc, SpanKind.CLIENT, attributes, work, (within) => {
          propagation.inject(within, setHeader, { set: (send, key, value) => send(key, value) });
        });
      }
      case 'qmp': {
        const { command, domain } = doing;
        const attributes = { 'blockjob.qmp.command': command, 'blockjob.domain': domain };
        return await this.#below(`QMP ${command}`, SpanKind.CLIENT, attributes, work);
      }
      case 'step': {
        const { step, job } = doing;
        const attributes = { 'blockjob.step': step, 'blockjob.job': job };
        return await this.#below(`step ${step}`, SpanKind.INTERNAL, attributes, work);
      }
      case 'sync':
        return await this.#below('journal sync', SpanKind.INTERNAL, {}, work);
      case 'look-after':
        return await context.with(ROOT_CONTEXT, work);
    }
  }

  /** A part of the work; without a requested trace there is no span. */
  async #below<T>(
    name: string,
    kind: SpanKind,
    attributes: Attributes,
    work: () => Promise<T>,
    sendAlong: (within: Context) => void = () => undefined,
  ): Promise<T> {
    const around = context.active();
    if (trace.getSpan(around) === undefined || around.getValue(NO_MORE) === true) return await work();
    const span = this.#tracer.startSpan(name, { kind, attributes }, around);
    const within = trace.setSpan(around, span);
    sendAlong(within);
    return await ending(span, within, work);
  }
}

async function ending<T>(span: Span, within: Context, work: () => Promise<T>): Promise<T> {
  try {
    return await context.with(within, work);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    span.setStatus({ code: SpanStatusCode.ERROR, message });
    span.setAttribute('error.type', codeOf(error));
    throw error;
  } finally {
    span.end();
  }
}

function rpcAttributes(rpc: string): Attributes {
  return { 'rpc.system': 'grpc', 'rpc.method': rpc };
}
