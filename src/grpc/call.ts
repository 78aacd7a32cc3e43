/** One gRPC call as the service sees it: a signal for the waiting caller, an answer or an error, an audit line. */
import { addAbortListener, once } from 'node:events';
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServerUnaryCall,
  type ServerWritableStream,
  type StatusObject,
  status,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { Call } from '../core/block-jobs.ts';
import { BlockJobError, fail } from '../core/errors.ts';
import type { ServerInfo } from '../core/server-info.ts';
import { momentOf } from '../lib/clock.ts';
import type { Doing, Observer } from '../lib/observer.ts';
import { peerOf } from './identity.ts';
import type { Refusals } from './refusals.ts';
import { answerTo, hiddenBy, reasonIn } from './status.ts';
import { refuseOlderGateway } from './versions.ts';

export interface CallContext {
  readonly log: Logger;
  /** Refusals are written there, or counted. */
  readonly refusals: Refusals;
  readonly observer: Observer;
  /** The program that answers. */
  readonly info: Pick<ServerInfo, 'host' | 'version'>;
  /** The gateways whose statements about callers are trusted, by the names in their certificates. */
  readonly gateways: ReadonlySet<string>;
  /** No other caller is answered. */
  readonly onlyGateways: boolean;
  /** Both are aborted with DRAINING as their reason: streams when the server begins to shut down, calls at the end. */
  readonly endStreams: AbortSignal;
  readonly endCalls: AbortSignal;
}

/** Stands for a request that is not a message of its type, or holds more than allowed. */
export class RefusedRequest {
  readonly why: BlockJobError;

  constructor(why: BlockJobError) {
    this.why = why;
  }
}

/** The action of an operating call, for the audit log. */
export type Audit<Request> = (request: Request) => Readonly<Record<string, unknown>>;

export function unary<Request, Response>(
  context: CallContext,
  name: string,
  handle: (request: Request, call: Call) => Promise<Response>,
  audit?: Audit<Request>,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    // The connection of a caller that has left may be gone.
    const who = whoAsks(call, context);
    let mayOperate = false;
    const onMayOperate = () => {
      mayOperate = true;
    };
    const run = async () => {
      try {
        refuseOlderGateway(name, call.metadata, context.info);
        const ask = async (request: Request, asked: Call) => await handle(request, { ...asked, onMayOperate });
        const response = await answerUnary(context, call, ask);
        if (audit !== undefined) context.log.info({ ...audit(call.request), ...who }, `audit: ${name} done`);
        return response;
      } catch (error) {
        // Nobody reads the answer, but the request may be carried out. The end of a wait is not an error.
        if (call.cancelled) {
          const asked = audit && auditOf(call, audit);
          const message = `audit: ${name} left`;
          if (asked !== undefined && mayOperate) context.log.info({ ...asked, ...who }, message);
          else if (asked !== undefined) noteRefused(context, who, 'left', asked, message);
          throw error;
        }
        const answer = answerTo(error, context.log);
        const details = { rpc: name, why: answer.details, ...hiddenBy(error) };
        const isAudited = audit !== undefined || isDenied(answer, error);
        const asked = audit === undefined ? details : { ...auditOf(call, audit), ...details };
        if (isAudited) noteRefused(context, who, reasonIn(answer), asked, `audit: ${name} refused`);
        else context.log.debug({ ...details, ...who }, 'A call was refused');
        callback(answer);
        throw error;
      }
    };
    context.observer.during(serving(call, name, false), run).then(
      (response) => callback(null, response),
      // It has been answered.
      () => undefined,
    );
  };
}

/** An invalid request has no details to log. */
function auditOf<Request>({ request }: { readonly request: Request }, audit: Audit<Request>) {
  return request instanceof RefusedRequest ? {} : audit(request);
}

function serving({ metadata }: AnyCall, rpc: string, isStream: boolean): Doing {
  return { does: 'serve', rpc, isStream, header: (key) => metadata.get(key)[0]?.toString() };
}

async function answerUnary<Request, Response>(
  context: CallContext,
  call: ServerUnaryCall<Request, Response>,
  handle: (request: Request, call: Call) => Promise<Response>,
): Promise<Response> {
  throwIfRefused(call.request);
  const asked = callOf(call, context, context.endCalls);
  const { signal } = asked;
  const leaves = Promise.withResolvers<never>();
  using _leaving = addAbortListener(signal, () => leaves.reject(signal.reason));
  // The end of a call does not wait for work that ignores the signal, for example a question to a QEMU that hangs.
  return await Promise.race([handle(call.request, asked), leaves.promise]);
}

export function serverStream<Request, Response>(
  context: CallContext,
  name: string,
  handle: (request: Request, call: Call) => AsyncIterable<Response>,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    const who = whoAsks(call, context);
    const run = async () => {
      try {
        throwIfRefused(call.request);
        const asked = callOf(call, context, context.endStreams);
        await writeAll(call, handle(call.request, asked), asked.signal);
        // The watcher resumes by revision if this ends too early.
        context.endStreams.throwIfAborted();
      } catch (error) {
        if (call.cancelled) throw error;
        const answer = answerTo(error, context.log);
        if (isDenied(answer, error)) {
          const details = { why: answer.details, ...hiddenBy(error) };
          noteRefused(context, who, reasonIn(answer), details, `audit: ${name} refused`);
        }
        // destroy() would send no status at all, and the client would wait for ever.
        call.emit('error', answer);
        throw error;
      }
    };
    context.observer.during(serving(call, name, true), run).then(
      () => call.end(),
      // It has been answered.
      () => undefined,
    );
  };
}

/**
 * Writes until the end, or until the signal; then the source has to finish (its `finally` blocks run). Back-pressure is
 * here and nowhere else.
 */
async function writeAll<Request, Response>(
  call: ServerWritableStream<Request, Response>,
  source: AsyncIterable<Response>,
  signal: AbortSignal,
): Promise<void> {
  for await (const message of source) {
    if (signal.aborted) return;
    // A slow reader stops the source here: one message waits, not a queue.
    if (call.write(message)) continue;
    await once(call, 'drain', { signal }).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }
}

type AnyCall = ServerUnaryCall<unknown, unknown> | ServerWritableStream<unknown, unknown>;

function callOf(call: AnyCall, { gateways, onlyGateways }: CallContext, serverEnds: AbortSignal): Call {
  const { caller, via, epoch, grant, wrong } = peerOf(call, gateways);
  if (wrong !== undefined) throw new BlockJobError(wrong);
  if (onlyGateways && via === undefined) {
    fail('CALLER_UNKNOWN', {
      why: `${caller ?? 'it'} is not one of the gateways of this agent; send the request to a gateway`,
    });
  }
  const left = new AbortController();
  // Comes when the caller has gone, at its deadline, and at the normal end, too; then nobody listens any more.
  call.once('cancelled', () => left.abort());
  const deadlineMs = momentOf(call.getDeadline());
  return {
    signal: AbortSignal.any([left.signal, serverEnds]),
    // Without one gRPC reports infinity.
    deadlineMs: deadlineMs === Infinity ? undefined : deadlineMs,
    caller,
    rights: grant && [() => grant],
    epoch,
  };
}

/** A caller's refused requests are audited, including reads. */
function isDenied({ code }: Partial<StatusObject>, error: unknown): boolean {
  return code === status.PERMISSION_DENIED || code === status.UNAUTHENTICATED || 'hides' in hiddenBy(error);
}

function noteRefused(context: CallContext, by: Asking, reason: string, asked: object, message: string): void {
  const { caller, address } = by;
  // The port differs for each connection.
  const who = caller ?? address.replace(/:\d+$/, '');
  context.refusals.note({ who, reason }, () => context.log.info({ ...asked, ...by }, message));
}

type Asking = ReturnType<typeof whoAsks>;

/** For the audit log. */
function whoAsks(call: AnyCall, { gateways }: CallContext) {
  const { caller, via } = peerOf(call, gateways);
  return { caller, via, address: call.getPeer() };
}

function throwIfRefused(request: unknown): void {
  if (request instanceof RefusedRequest) throw request.why;
}
