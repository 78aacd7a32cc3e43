// One stream of watches, from its opening to its end. It never comes back: see watcher.ts for what does.
//
// Silence is suspicious: etcd is asked for its progress every three seconds, and a stream on which nothing has come
// since the question before has ended. Only events advance a watch; the revisions in `created` and progress are
// not in step with the events (etcd before 3.4.25 and 3.5.8).

import {
  type Event,
  Event_EventType,
  type WatchRequest,
  type WatchResponse,
  WatchService,
} from '../../../generated/etcd/etcd.ts';
import type { Etcd, Opened } from './client.ts';
import { type EtcdError, Refused, Unreachable } from './errors.ts';
import { endsOf, entryOf, type KeyChange, type KeyRange } from './keys.ts';

export interface WatchHooks {
  /** All changes of a few revisions, in order. */
  readonly changed: (watch: bigint, changes: readonly KeyChange[]) => void;
  /** The revisions that this watch wanted are compacted: the watch has ended. */
  readonly compacted: (watch: bigint) => void;
  /** A message came. `answered`: to the question for progress, so that all earlier requests are in progress. */
  readonly heard: (answered: boolean) => void;
  /** Once, unless it was ended from here; nothing comes after it. */
  readonly over: (why: EtcdError) => void;
}

/** Then the reason is reported, and the watch begins again. */
const OPEN_MS = 3_000;
const PROBE_MS = 3_000;
/** The answer to a question for progress has this instead of a watch's number. */
const PROGRESS = -1n;

export class WatchSession {
  readonly #hooks: WatchHooks;
  /** Watches that etcd has not confirmed yet. */
  readonly #creating = new Set<bigint>();
  /** The parts so far of a large answer. */
  readonly #pieces = new Map<bigint, KeyChange[]>();
  #opened: Opened<WatchRequest> | undefined;
  #probes: NodeJS.Timeout | undefined;
  #silent = false;
  #last = 0n;

  private constructor(hooks: WatchHooks) {
    this.#hooks = hooks;
  }

  static async open(etcd: Etcd, hooks: WatchHooks, signal: AbortSignal): Promise<WatchSession> {
    const session = new WatchSession(hooks);
    session.#opened = await etcd.open(
      'a watch',
      WatchService.watch,
      { answered: (response) => session.#answered(response), over: (why) => session.#fail(why) },
      { timeoutMs: OPEN_MS, signal },
    );
    return session;
  }

  /** Begins to watch, from that revision on, and gives the watch's number. */
  create(range: KeyRange, startRevision: bigint): bigint {
    const watchId = ++this.#last;
    this.#creating.add(watchId);
    const value = { ...endsOf(range), startRevision, watchId, fragment: true };
    this.#opened?.send({ requestUnion: { $case: 'createRequest', value } });
    // A stream without watches has no news.
    this.#probes ??= setInterval(() => this.#probe(), PROBE_MS);
    return watchId;
  }

  cancel(watchId: bigint): void {
    this.#opened?.send({ requestUnion: { $case: 'cancelRequest', value: { watchId } } });
  }

  /** May be repeated. */
  end(): void {
    clearInterval(this.#probes);
    this.#opened?.end();
  }

  #fail(why: EtcdError): void {
    clearInterval(this.#probes);
    this.#opened?.failed();
    this.#hooks.over(why);
  }

  #probe(): void {
    if (this.#silent) return this.#fail(new Unreachable('a watch', `silent for ${PROBE_MS} ms`));
    this.#silent = true;
    this.#askForProgress();
  }

  #askForProgress(): void {
    this.#opened?.send({ requestUnion: { $case: 'progressRequest', value: {} } });
  }

  #answered(response: WatchResponse): void {
    this.#silent = false;
    const { watchId, created, canceled, compactRevision, cancelReason, events, fragment } = response;
    if (canceled && compactRevision !== 0n) {
      this.#creating.delete(watchId);
      return this.#hooks.compacted(watchId);
    }
    if (canceled && cancelReason !== '') return this.#fail(refusal(cancelReason));
    if (created && this.#creating.delete(watchId) && this.#creating.size === 0) this.#askForProgress();
    this.#pass(watchId, events, fragment);
    this.#hooks.heard(watchId === PROGRESS && this.#creating.size === 0);
  }

  #pass(watchId: bigint, events: readonly Event[], more: boolean): void {
    if (events.length === 0) return;
    const changes = [...(this.#pieces.get(watchId) ?? []), ...events.flatMap(changeOf)];
    if (more) {
      this.#pieces.set(watchId, changes);
      return;
    }
    this.#pieces.delete(watchId);
    this.#hooks.changed(watchId, changes);
  }
}

function changeOf({ type, kv }: Event): KeyChange[] {
  if (kv === undefined) return [];
  const entry = entryOf(kv);
  const { key, modRevision } = entry;
  return [{ key, modRevision, entry: type === Event_EventType.DELETE ? undefined : entry }];
}

/** etcd gives the reason of a watch's end only in words; those of 3.4 are the same for an old token. */
function refusal(cancelReason: string): EtcdError {
  const denied = /permission denied/i.test(cancelReason);
  const token = /auth token|auth store|in header is old/i.test(cancelReason);
  return new Refused('a watch', token ? 'not-authenticated' : denied ? 'denied' : 'other', cancelReason);
}
