/** Every call to a remote service, for observers: its request, its metadata, and its end. */
import { InterceptingCall, type Interceptor, Metadata, type StatusObject, status } from '@grpc/grpc-js';
import type { Observer } from '../../lib/observer.ts';
import { errorOf } from './failure.ts';

export function observing(observer: Observer, host: string): Interceptor {
  return (options, nextCall) => {
    const { path, responseStream: isStream } = options.method_definition;
    const rpc = rpcOf(path);
    return new InterceptingCall(nextCall(options), {
      start: (metadata, _listener, next) => {
        const ended = Promise.withResolvers<void>();
        const onReceiveStatus = (how: StatusObject, tell: (how: StatusObject) => void) => {
          if (how.code === status.OK) ended.resolve();
          else ended.reject(whyEnded(how, host));
          tell(how);
        };
        const setHeader = (name: string, value: string) => metadata.set(name, value);
        const work = async () => {
          next(metadata, { onReceiveStatus });
          await ended.promise;
        };
        // The caller gets the status; this promise is for observers.
        observer.during({ does: 'ask', rpc, host, isStream, setHeader }, work).catch(() => undefined);
      },
    });
  };
}

/** The call, as in the contract. */
export function rpcOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function whyEnded(how: StatusObject, host: string): Error {
  // Neither means that the host is silent: the caller had no more time.
  if (how.code === status.CANCELLED || how.code === status.DEADLINE_EXCEEDED)
    return new DOMException(how.details, 'AbortError');
  return errorOf(Object.assign(new Error(how.details), { ...how, metadata: how.metadata ?? new Metadata() }), host);
}
