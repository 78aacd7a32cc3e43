/** The log, the meters and the traces of one service. */
import type { Logger } from 'pino';
import type { AgentConfig, EmbeddedConfig, GatewayConfig } from '../config/config.ts';
import type { Certificates } from '../grpc/certificates.ts';
import { bothObservers, harmless, NOBODY, type Observer } from '../lib/observer.ts';
import { VERSION } from '../lib/version.ts';
import { CallMeters } from '../metrics/calls.ts';
import { listen } from '../metrics/listener.ts';
import { Meters } from '../metrics/meters.ts';
import { addService } from '../metrics/service.ts';
import type { Traces } from '../tracing/traces.ts';
import { type Log, openLog } from './log.ts';
import { beside } from './serving.ts';

type Config = EmbeddedConfig | AgentConfig | GatewayConfig;

export class Telemetry implements AsyncDisposable {
  readonly meters = new Meters();
  /** Sees served calls, and the parts of traces. */
  readonly #observer: Observer;
  readonly #config: Config;
  readonly #traces: Traces | undefined;
  readonly #log: Log;

  private constructor(config: Config, traces: Traces | undefined) {
    this.#config = config;
    this.#traces = traces;
    this.#log = openLog({ level: config.logLevel, mixin: traces && (() => traces.ids()) });
    this.#observer = bothObservers(traces?.observer ?? NOBODY, new CallMeters(this.meters, 'serve'));
    traces?.complainTo(this.log);
  }

  get log(): Logger {
    return this.#log.log;
  }

  static async open(config: Config): Promise<Telemetry> {
    return new Telemetry(config, await tracesOf(config));
  }

  /** All observers and `more`: their errors are logged, and affect nothing else. */
  with(more: Observer): Observer {
    return harmless(bothObservers(this.#observer, more), (error) =>
      this.log.error({ err: error }, 'Measuring has failed'),
    );
  }

  /** Serves the metrics if requested. Rejects with what to do if the port was requested and cannot be used. */
  async listen(certificates: Certificates | undefined): Promise<AsyncDisposable | undefined> {
    const { metrics, mode } = this.#config;
    if (metrics === undefined) return undefined;
    this.meters.addProcess();
    addService(this.meters, {
      version: VERSION,
      mode,
      certificateEnds: () => certificates?.ends,
      linesDropped: this.#log.dropped,
    });
    return await beside(
      metrics,
      async () => await listen({ ...metrics, meters: this.meters, log: this.log }),
      this.log,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#traces?.[Symbol.asyncDispose]();
  }
}

/** OpenTelemetry is large: it is loaded only on request. */
async function tracesOf({ traces }: Config): Promise<Traces | undefined> {
  if (traces === undefined) return undefined;
  const { openTraces } = await import('../tracing/open-telemetry.ts');
  return openTraces({ ...traces, version: VERSION });
}
