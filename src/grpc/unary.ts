/** The answer of a call, or its error; and an audit line if the call changes something. */
import type { handleUnaryCall, ServerUnaryCall } from '@grpc/grpc-js';
import type { Call } from '../core/block-jobs.ts';
import {
  askedBy,
  type CallContext,
  isDenied,
  noteRefused,
  RefusedRequest,
  serving,
  throwIfRefused,
  whoAsks,
} from './call.ts';
import { peerOf } from './identity.ts';
import { answerTo, hiddenBy, reasonIn } from './status.ts';
import { refuseOlderGateway } from './versions.ts';

/** The action of an operating call, for the audit log. */
export type Audit<Request> = (request: Request) => Readonly<Record<string, unknown>>;

export function unary<Request, Response>(
  context: CallContext,
  name: string,
  handle: (request: Request, call: Call) => Promise<Response>,
  audit?: Audit<Request>,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const peer = peerOf(call, context.gateways);
    // The connection of a caller that has left may be gone.
    const who = whoAsks(call, peer);
    let mayOperate = false;
    const onMayOperate = () => {
      mayOperate = true;
    };
    const run = async () => {
      try {
        refuseOlderGateway(name, call.metadata, context.info);
        throwIfRefused(call.request);
        const asked = { ...askedBy(call, peer, context), onMayOperate };
        const response = await answered(
          context,
          call,
          async (signal) => await handle(call.request, { ...asked, signal }),
        );
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

/** The end of a call does not wait for work that ignores the signal, for example a question to a QEMU that hangs. */
async function answered<Response>(
  { calls }: CallContext,
  call: Pick<ServerUnaryCall<unknown, unknown>, 'once'>,
  work: (signal: AbortSignal) => Promise<Response>,
): Promise<Response> {
  const ended = Promise.withResolvers<never>();
  using open = calls.begin(call, ended.reject);
  return await Promise.race([work(open.signal), ended.promise]);
}
