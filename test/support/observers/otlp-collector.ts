/** Receives spans as OTLP exports them (HTTP, JSON), and keeps them. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { Wake } from '../../../src/lib/wake.ts';
import { until } from '../until.ts';

/** As in opentelemetry/proto/trace/v1. */
interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status?: { readonly code?: number; readonly message?: string };
  readonly attributes: readonly { readonly key: string; readonly value: { readonly stringValue?: string } }[];
}

interface OtlpTraces {
  readonly resourceSpans: readonly {
    readonly resource: Pick<OtlpSpan, 'attributes'>;
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
}

const KINDS = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'] as const;

export interface CollectedSpan extends Omit<OtlpSpan, 'kind' | 'attributes'> {
  readonly service: string;
  readonly kind: (typeof KINDS)[number];
  readonly attributes: Readonly<Record<string, string | undefined>>;
}

export class OtlpCollector implements AsyncDisposable {
  readonly spans: CollectedSpan[] = [];
  readonly #server: Server;
  readonly #changed = new Wake();

  private constructor(server: Server) {
    this.#server = server;
    server.on('request', (request, response) => {
      json(request)
        .then((body) => {
          this.#take(body as OtlpTraces);
          response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
        })
        .catch((error: unknown) => void response.writeHead(400).end(String(error)));
    });
  }

  static async start(): Promise<OtlpCollector> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new OtlpCollector(server);
  }

  /** The standard variables that make a service send its spans here, soon. */
  get variables(): Readonly<Record<string, string>> {
    const { port } = this.#server.address() as AddressInfo;
    return {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_BSP_SCHEDULE_DELAY: '50',
    };
  }

  /** Resolves when a matching span has come. */
  async received(what: string, is: (span: CollectedSpan) => boolean): Promise<void> {
    await until(what, this.#changed, () => this.spans.some(is));
  }

  #take({ resourceSpans }: OtlpTraces): void {
    for (const { resource, scopeSpans } of resourceSpans) {
      const service = textsOf(resource)['service.name'] ?? '';
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        const kind = KINDS[span.kind] ?? 'UNSPECIFIED';
        this.spans.push({ ...span, service, kind, attributes: textsOf(span) });
      }
    }
    this.#changed.notify();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }
}

function textsOf({ attributes }: Pick<OtlpSpan, 'attributes'>): CollectedSpan['attributes'] {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue]));
}
