/** Exposes BlockJobs: the services, health, reflection; and ends them so that no client is left in doubt. */
import type { ServerHttp2Session } from 'node:http2';
import { TLSSocket } from 'node:tls';
import { toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import {
  logVerbosity,
  Server,
  type ServiceDefinition,
  setLogVerbosity,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation } from 'grpc-health-check';
import type { Logger } from 'pino';
import { BlockJobServiceService } from '../../generated/blockjob/v1/block_job_service.ts';
import { DomainServiceService } from '../../generated/blockjob/v1/domain_service.ts';
import { ServerServiceService } from '../../generated/blockjob/v1/server_service.ts';
import type { BlockJobs, Call } from '../core/block-jobs.ts';
import { BlockJobError, failure } from '../core/errors.ts';
import type { ServerInfo } from '../core/server-info.ts';
import type { Address } from '../lib/address.ts';
import { NOBODY, type Observer } from '../lib/observer.ts';
import { Timer } from '../lib/timer.ts';
import { CONTRACT, decoded } from './bounded.ts';
import { RefusedRequest } from './call.ts';
import type { Certificates } from './certificates.ts';
import { Door } from './door/door.ts';
import { DEFAULT_LIMITS, type DoorLimits, REQUEST_BYTES, SESSION_MIB } from './door/limits.ts';
import { blockJobHandlers, domainHandlers, serverHandlers } from './handlers.ts';
import { tellOfRefused } from './handshakes.ts';
import { identitiesIn } from './identity.ts';
import { bind } from './listen.ts';
import { OpenCalls } from './open-calls.ts';
import { Refusals } from './refusals.ts';

export interface RunningServer {
  /** The address for clients, with the chosen port if 0 was requested. */
  readonly address: string;
  /** Ends in order: no new calls, watches end with UNAVAILABLE, calls in progress get `graceMs`; jobs continue in QEMU. */
  drain(graceMs: number): Promise<void>;
}

const SERVICES = ['blockjob.v1.BlockJobService', 'blockjob.v1.DomainService', 'blockjob.v1.ServerService'];

const LAST_MS = 1000;
const OPTIONS = {
  'grpc.max_receive_message_length': REQUEST_BYTES,
  // A vanished client is found in this time, and its watches end.
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.max_connection_idle_ms': 600_000,
  // channelz stays on: without it forceShutdown knows no sessions, and ends none (grpc-js 1.14).
};

export interface ServeOptions {
  readonly info: ServerInfo;
  /** Throws for a caller that may not know it. */
  readonly mayAskForInfo?: (call: Call) => void;
  readonly listen: Address;
  /** Undefined for plaintext, on a unix socket or loopback. */
  readonly certificates?: Certificates | undefined;
  /** Gateways whose statements about their callers are trusted, by the names in their certificates. */
  readonly gateways?: readonly string[] | undefined;
  /** No other caller is answered. */
  readonly onlyGateways?: boolean;
  /** How much callers may use. */
  readonly limits?: Partial<DoorLimits>;
  readonly observer?: Observer;
  readonly log: Logger;
}

/** Rejects when the address cannot be listened on. */
export async function serve(jobs: BlockJobs, options: ServeOptions): Promise<RunningServer> {
  const {
    info,
    mayAskForInfo = () => undefined,
    listen,
    certificates,
    gateways = [],
    onlyGateways = false,
    observer = NOBODY,
    log,
  } = options;
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  setLogVerbosity(logVerbosity.NONE);
  const streams = new OpenCalls();
  const calls = new OpenCalls();
  const refusals = new Refusals(log);
  const context = {
    log,
    refusals,
    observer,
    info,
    gateways: new Set(gateways),
    onlyGateways,
    streams,
    calls,
  };
  const server = new Server({
    ...OPTIONS,
    'grpc.max_concurrent_streams': limits.streams,
    'grpc.max_connection_age_ms': limits.connectionMs,
    'grpc.max_connection_age_grace_ms': limits.graceMs,
    'grpc-node.max_session_memory': gateways.length === 0 ? SESSION_MIB.plain : SESSION_MIB.gateway,
  });
  const isGateway = (session: ServerHttp2Session) => namesOf(session).some((name) => context.gateways.has(name));
  const door = new Door(server, { limits, isGateway: gateways.length === 0 ? undefined : isGateway, log });
  server.addService(tolerant(BlockJobServiceService), { ...blockJobHandlers(jobs, context) });
  server.addService(tolerant(DomainServiceService), { ...domainHandlers(jobs, context) });
  server.addService(tolerant(ServerServiceService), { ...serverHandlers(info, mayAskForInfo, context) });
  const names = ['', ...SERVICES];
  const health = new HealthImplementation(Object.fromEntries(names.map((name) => [name, 'SERVING'])));
  addHealth(health, server, names);
  reflection().addToServer(server);

  const address = await bind(server, listen, certificates);
  door.guard();
  tellOfRefused(server, log, refusals);
  log.info({ address }, 'Serving');
  return {
    address,
    drain: async (graceMs) => {
      for (const name of names) health.setStatus(name, 'NOT_SERVING');
      const closed = new Promise<void>((resolve) => {
        server.tryShutdown(() => resolve());
      });
      const draining = new BlockJobError(failure('DRAINING', {}));
      streams.end(draining);
      const timers = [
        new Timer(() => calls.end(draining), graceMs),
        // A caller that does not read its answer by then does not get one.
        new Timer(() => {
          server.forceShutdown();
          door.endAll();
        }, graceMs + LAST_MS),
      ];
      await closed;
      for (const timer of timers) timer[Symbol.dispose]();
      refusals[Symbol.dispose]();
      door[Symbol.dispose]();
      log.info('All calls have ended');
    },
  };
}

/** The peer, by its certificate. */
function namesOf({ socket }: ServerHttp2Session): readonly string[] {
  return socket instanceof TLSSocket ? identitiesIn(socket.getPeerCertificate().subjectaltname) : [];
}

/**
 * Bytes that are not a message, or one that is too large, get an answer in our words, not the library's INTERNAL. An
 * answer that is encoded already, for many callers, is sent as it is.
 */
function tolerant<Implementation extends UntypedServiceImplementation>(
  service: ServiceDefinition<Implementation>,
): ServiceDefinition<Implementation> {
  const methods = Object.entries<ServiceDefinition[string]>(service).map(([name, method]) => {
    const requestDeserialize = (bytes: Buffer): unknown => {
      try {
        return decoded(method, bytes);
      } catch (error) {
        if (error instanceof BlockJobError) return new RefusedRequest(error);
        throw error;
      }
    };
    const responseSerialize = (message: unknown): Buffer =>
      message instanceof Uint8Array ? bufferOf(message) : method.responseSerialize(message);
    return [name, { ...method, requestDeserialize, responseSerialize }];
  });
  return Object.fromEntries(methods) as ServiceDefinition<Implementation>;
}

/** Without a copy. */
function bufferOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** No service has this name. */
const UNKNOWN = '?';

/** The library keeps each name that was ever watched, with a whole text behind it: all unknown names count as one. */
function addHealth(health: HealthImplementation, server: Server, names: readonly string[]): void {
  const addService: Server['addService'] = (service, implementation) => {
    const methods = Object.entries<ServiceDefinition[string]>(service).map(([name, method]) => {
      const requestDeserialize = (bytes: Buffer): unknown => {
        try {
          const { service: asked } = method.requestDeserialize(bytes) as { readonly service: string };
          return { service: names.includes(asked) ? asked : UNKNOWN };
        } catch {
          return { service: UNKNOWN };
        }
      };
      return [name, { ...method, requestDeserialize }];
    });
    server.addService(Object.fromEntries(methods) as ServiceDefinition, implementation);
  };
  health.addToServer({ addService });
}

/**
 * The library's own loader loses the imports between files, so that clients cannot call the methods that they find
 * (grpc-node issue 2958). It accepts the original descriptors.
 */
function reflection(): ReflectionService {
  const fileDescriptorProtos = CONTRACT.file.map((file) => Buffer.from(toBinary(FileDescriptorProtoSchema, file)));
  const descriptors = {
    format: 'Protocol Buffer 3 EnumDescriptorProto' as const,
    type: {},
    fileDescriptorProtos,
  };
  return new ReflectionService({ descriptors }, { services: [...SERVICES, 'grpc.health.v1.Health'] });
}
