/** The same question to many hosts at once, with limits: the hosts that do not answer in time are named. */
import type { Call } from '../../core/block-jobs.ts';
import { BlockJobError } from '../../core/errors.ts';
import type { Host } from '../directory/directory.ts';
import type { Agent, Agents } from './agents.ts';

/** A host that hangs must not make the whole fleet hang. */
const HOST_ANSWERS_MS = 5000;
const AT_A_TIME = 100;

export interface Answers<T> {
  readonly answers: readonly { readonly host: Host; readonly answer: T }[];
  /** Typed refusals: the host works, and refuses. */
  readonly refusals: readonly BlockJobError[];
  readonly unreachable: readonly string[];
}

export async function askAll<T>(
  hosts: readonly Host[],
  agents: Pick<Agents, 'of'>,
  ask: (agent: Agent, call: Call) => Promise<T>,
  call: Call,
  enough: (answer: T) => boolean = () => false,
): Promise<Answers<T>> {
  const done = new AbortController();
  const signal = AbortSignal.any([call.signal, done.signal]);
  const [answers, refusals, unreachable]: [{ host: Host; answer: T }[], BlockJobError[], string[]] = [[], [], []];
  const waiting = hosts.values();
  const askSome = async () => {
    for (const host of waiting) {
      if (signal.aborted) return;
      try {
        const deadlineMs = Math.min(call.deadlineMs ?? Infinity, performance.now() + HOST_ANSWERS_MS);
        const answer = await ask(agents.of(host), { ...call, signal, deadlineMs });
        answers.push({ host, answer });
        if (enough(answer)) done.abort();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof BlockJobError)) throw error;
        if (isHostUnreachable(error)) unreachable.push(host.name);
        else refusals.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_A_TIME, hosts.length) }, askSome));
  call.signal.throwIfAborted();
  return { answers, refusals, unreachable };
}

/** The host, or the connection to it, has failed, and another attempt may succeed. */
export function isHostUnreachable({ reason }: BlockJobError): boolean {
  return reason === 'HOST_UNREACHABLE' || reason === 'DRAINING';
}
