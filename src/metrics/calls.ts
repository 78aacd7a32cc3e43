/** Calls of the contract: served calls, and a gateway's calls to agents. */
import { type Code, codeOf } from '../core/errors.ts';
import type { Doing, Observer } from '../lib/observer.ts';
import { type Meters, secondsFrom } from './meters.ts';

/** A stream lasts as long as it is watched: it is counted, and says nothing about speed. */
export class CallMeters implements Observer {
  readonly #does: 'serve' | 'ask';
  readonly #ended;
  readonly #seconds;

  constructor(meters: Meters, does: 'serve' | 'ask') {
    this.#does = does;
    const [name, what] = does === 'serve' ? ['grpc', 'gRPC calls answered'] : ['upstream', 'gRPC calls to agents'];
    this.#ended = meters.counter(`${name}_calls_total`, `${what}, by method and by the code of their end.`, [
      'method',
      'code',
    ]);
    this.#seconds = meters.histogram(
      `${name}_call_seconds`,
      `How long ${what} took, without streams.`,
      secondsFrom(0.001, 60),
      ['method'],
    );
  }

  async during<T>(doing: Doing, work: () => Promise<T>): Promise<T> {
    if (doing.does !== this.#does) return await work();
    const began = performance.now();
    const method = doing.rpc;
    let code: Code | 'OK' = 'OK';
    try {
      return await work();
    } catch (error) {
      code = codeOf(error);
      throw error;
    } finally {
      this.#ended.inc({ method, code });
      if (!doing.isStream) this.#seconds.observe({ method }, (performance.now() - began) / 1000);
    }
  }
}
