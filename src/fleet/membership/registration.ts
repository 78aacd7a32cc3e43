/** A host's entry in etcd, on a lease: from its creation to its loss. */
import type { Logger } from 'pino';
import { type Host, HostNameTaken } from '../directory/directory.ts';
import { hostKey, hostValue, readHost } from '../directory/layout.ts';
import type { Etcd } from '../etcd/client.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { Entry } from '../etcd/keys.ts';
import { Lease } from '../etcd/lease.ts';
import { absent, modifiedAt, put, read, type Txn, type TxnAnswer } from '../etcd/transactions.ts';
import type { Watcher } from '../etcd/watcher.ts';

const REVOKE_MS = 2_000;

export interface RegistrationOptions {
  readonly etcd: Etcd;
  readonly watcher: Watcher;
  readonly host: Host;
  readonly ttlSeconds: number;
  /** Whether an entry of the same instance may be taken over: this agent wrote it before it was restarted. */
  readonly takesOver: boolean;
  readonly log: Logger;
  /** It has been lost. */
  readonly changed: () => void;
  readonly signal: AbortSignal;
}

/** `superseded`: by a process of the same instance, which is newer than this one. */
export type Lapse = 'its lease has ended' | 'its entry was deleted' | 'another agent has its name' | 'superseded';

interface State {
  loss: Lapse | undefined;
}

export class Registration {
  /** The revision of our entry: another one there means that we are not registered any more. */
  readonly epoch: bigint;
  readonly #lease: Lease;
  readonly #following: Disposable;
  readonly #state: State;

  private constructor(lease: Lease, { revision }: TxnAnswer, state: State, options: RegistrationOptions) {
    const { host, watcher } = options;
    this.epoch = revision;
    this.#lease = lease;
    this.#state = state;
    const look = (entry: Entry | undefined) => {
      if (entry?.modRevision === revision) return;
      state.loss ??= lossBy(entry, host);
      options.changed();
    };
    const follower = {
      page: (entries: readonly Entry[]) => look(entries[0]),
      changed: (changes: readonly { readonly entry: Entry | undefined }[]) => look(changes.at(-1)?.entry),
    };
    this.#following = watcher.follow({ key: hostKey(host.name) }, follower, revision + 1n);
  }

  /** Rejects with HostNameTaken, or with EtcdError; then nothing is left of it, or it ends by itself. */
  static async make(options: RegistrationOptions): Promise<Registration> {
    const { etcd, ttlSeconds, log, changed, signal } = options;
    const state: State = { loss: undefined };
    const hooks = {
      gone: () => {
        state.loss ??= 'its lease has ended';
        changed();
      },
      trouble: (why: EtcdError, failures: number) => {
        log[failures === 0 ? 'warn' : 'debug']({ error: why.message }, 'The lease of this host was not renewed');
      },
    };
    const lease = await Lease.grant(etcd, ttlSeconds, hooks, signal);
    try {
      return new Registration(lease, await enter(lease.id, options), state, options);
    } catch (error) {
      await end(lease);
      throw error;
    }
  }

  get loss(): Lapse | undefined {
    return this.#state.loss;
  }

  /** Like Lease.certainForMs. */
  get certainForMs(): number {
    return this.#lease.certainForMs;
  }

  /** The entry disappears at once, or when its time is over if etcd does not answer. */
  async end(): Promise<void> {
    this.#following[Symbol.dispose]();
    await end(this.#lease);
  }
}

/** Writes the entry: if there is none, or over one of the same instance. */
async function enter(lease: bigint, { etcd, host, takesOver, signal }: RegistrationOptions): Promise<TxnAnswer> {
  const key = hostKey(host.name);
  const ifSo = [put(key, hostValue(host), lease)];
  const first = await etcd.txn({ when: [absent(key)], ifSo, ifNot: [read(key)] }, { signal });
  if (first.held) return first;
  const [there] = first.found;
  const holder = there && readHost(there);
  if (there === undefined || holder?.instance !== host.instance || !takesOver) {
    throw new HostNameTaken(host.name, holder ?? { address: 'an unknown address', instance: 'unknown' });
  }
  const second: Txn = { when: [modifiedAt(key, there.modRevision)], ifSo };
  const answer = await etcd.txn(second, { signal });
  if (!answer.held) throw new EtcdError(`The entry of host ${host.name} has changed while it was taken over`);
  // It has no keys any more.
  await etcd.revokeLease(there.lease, { signal }).catch(onlyEtcd);
  return answer;
}

function lossBy(entry: Entry | undefined, host: Host): Lapse {
  if (entry === undefined) return 'its entry was deleted';
  return readHost(entry)?.instance === host.instance ? 'superseded' : 'another agent has its name';
}

async function end(lease: Lease): Promise<void> {
  await lease.revoke(REVOKE_MS).catch(onlyEtcd);
}

function onlyEtcd(error: unknown): void {
  if (!(error instanceof EtcdError)) throw error;
}
