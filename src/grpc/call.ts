/** One gRPC call as the service sees it: its caller, its signal, an audit line; and the answers of a stream. */
import {
  type handleServerStreamingCall,
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
import { eachOf } from '../lib/pushed.ts';
import { type Peer, peerOf } from './identity.ts';
import { MessagesOut } from './messages-out.ts';
import type { OpenCalls } from './open-calls.ts';
import type { Refusals } from './refusals.ts';
import { answerTo, hiddenBy, reasonIn } from './status.ts';

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
  /** Both end with DRAINING as their reason: streams when the server begins to shut down, calls at the end. */
  readonly streams: OpenCalls;
  readonly calls: OpenCalls;
}

/** Stands for a request that is not a message of its type, or holds more than allowed. */
export class RefusedRequest {
  readonly why: BlockJobError;

  constructor(why: BlockJobError) {
    this.why = why;
  }
}

export function serving({ metadata }: AnyCall, rpc: string, isStream: boolean): Doing {
  return { does: 'serve', rpc, isStream, header: (key) => metadata.get(key)[0]?.toString() };
}

/** `handle` returns encoded messages. */
export function serverStream<Request>(
  context: CallContext,
  name: string,
  handle: (request: Request, call: Call) => AsyncIterable<Uint8Array>,
): handleServerStreamingCall<Request, Uint8Array> {
  return (call) => {
    const peer = peerOf(call, context.gateways);
    const who = whoAsks(call, peer);
    const run = async () => {
      try {
        throwIfRefused(call.request);
        const asked = askedBy(call, peer, context);
        using open = context.streams.begin(call);
        const { signal } = open;
        await writeAll(call, handle(call.request, { ...asked, signal }), signal);
        // The watcher resumes by revision if this ends too early.
        signal.throwIfAborted();
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

/** Writes until the end, or until the signal; then the source has to finish (its `finally` blocks run). */
function writeAll<Request>(
  call: ServerWritableStream<Request, Uint8Array>,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  let out: MessagesOut | undefined;
  return eachOf(source, (message) => {
    // An answer without a message has no headers of its own.
    out ??= new MessagesOut(call, signal);
    return out.write(message);
  });
}

type AnyCall = ServerUnaryCall<unknown, unknown> | ServerWritableStream<unknown, unknown>;

/** Throws for a caller that gets no answer here. */
export function askedBy(
  call: AnyCall,
  { caller, via, epoch, grant, wrong }: Peer,
  { onlyGateways }: CallContext,
): Omit<Call, 'signal'> {
  if (wrong !== undefined) throw new BlockJobError(wrong);
  if (onlyGateways && via === undefined) {
    fail('CALLER_UNKNOWN', {
      why: `${caller ?? 'it'} is not one of the gateways of this agent; send the request to a gateway`,
    });
  }
  const deadlineMs = momentOf(call.getDeadline());
  return {
    // Without one gRPC reports infinity.
    deadlineMs: deadlineMs === Infinity ? undefined : deadlineMs,
    caller,
    rights: grant && [() => grant],
    epoch,
  };
}

/** A caller's refused requests are audited, including reads. */
export function isDenied({ code }: Partial<StatusObject>, error: unknown): boolean {
  return code === status.PERMISSION_DENIED || code === status.UNAUTHENTICATED || 'hides' in hiddenBy(error);
}

export function noteRefused(context: CallContext, by: Asking, reason: string, asked: object, message: string): void {
  const { caller, address } = by;
  // The port differs for each connection.
  const who = caller ?? address.replace(/:\d+$/, '');
  context.refusals.note({ who, reason }, () => context.log.info({ ...asked, ...by }, message));
}

type Asking = ReturnType<typeof whoAsks>;

/** For the audit log. */
export function whoAsks(call: AnyCall, { caller, via }: Peer) {
  return { caller, via, address: call.getPeer() };
}

export function throwIfRefused(request: unknown): void {
  if (request instanceof RefusedRequest) throw request.why;
}
