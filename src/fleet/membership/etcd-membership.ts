// One host in the directory in etcd, for as long as its agent runs.
//
//   joining ──► member ──► joining …   the entry is lost (etcd was away for longer than the lease): it is made again,
//      │                               and every domain is looked at again
//      └──► refused                    another agent has the name; tried again each time that a lease could have ended

import type { Logger } from 'pino';
import { Wake } from '../../lib/wake.ts';
import {
  type Host,
  HostNameTaken,
  type LocalDomain,
  type LookOptions,
  type Membership,
  type Standing,
  type Verdict,
} from '../directory/directory.ts';
import { domainKey, hostKey, readDomain } from '../directory/layout.ts';
import { pause, retryInMs } from '../etcd/back-off.ts';
import type { Etcd } from '../etcd/client.ts';
import { EtcdError } from '../etcd/errors.ts';
import { modifiedAt, read } from '../etcd/transactions.ts';
import { Watcher } from '../etcd/watcher.ts';
import { Claims } from './claims.ts';
import { Registration } from './registration.ts';

export interface EtcdMembershipOptions {
  /** Belongs to its creator. */
  readonly etcd: Etcd;
  readonly host: Host;
  /** How long the others believe in an absent host. Default: 15. */
  readonly ttlSeconds?: number;
  /** The lease is not trusted for this long before its end: at least an election of etcd. Default: 2,000. */
  readonly marginMs?: number;
  readonly log: Logger;
}

/** How often a domain of another host is checked again. */
const RECHECK_MS = 2_000;

export class EtcdMembership implements Membership {
  readonly changes = new Wake();
  readonly #options: EtcdMembershipOptions;
  readonly #watcher: Watcher;
  readonly #claims: Claims;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #standing: Standing = { is: 'joining', why: 'it has just started' };
  #registration: Registration | undefined;
  /** A newer process has taken our entry over: this process does not reclaim it. */
  #superseded = false;

  /** Begins at once, and continues until it is closed. */
  constructor(options: EtcdMembershipOptions) {
    const { etcd, host, log } = options;
    this.#options = options;
    this.#watcher = new Watcher(etcd, (live, why) => {
      const text = 'The directory is not being followed; the lease limits how long ownership is certain';
      if (!live) log.debug({ error: why?.message }, text);
    });
    this.#claims = new Claims({ etcd, watcher: this.#watcher, host, log, changed: () => this.changes.notify() });
    this.#watcher.start();
    this.#running = this.#run();
  }

  async join(signal?: AbortSignal): Promise<void> {
    await this.changes.until(() => this.#standing.is !== 'joining', signal);
    if (this.#standing.is === 'refused') throw this.#standing.why;
  }

  get standing(): Standing {
    return this.#standing;
  }

  advertise(domains: readonly LocalDomain[], options: { readonly complete: boolean }): void {
    this.#claims.advertise(domains, options);
  }

  arrived(id: string): void {
    this.#claims.arrived(id);
  }

  owns(id: string): boolean {
    return this.#claims.epochOf(id) !== undefined;
  }

  async mayAct(id: string, options: LookOptions & { readonly epoch?: bigint | undefined }): Promise<Verdict> {
    const by = performance.now() + options.timeoutMs;
    await this.#decided(id, by, options.signal);
    if (this.#isOld(id, options.epoch)) {
      this.#claims.doubt(id);
      await this.#decided(id, by, options.signal);
    }
    const epoch = this.#claims.epochOf(id);
    const registration = this.#registration;
    if (epoch === undefined || registration === undefined) return this.#notHeld(id);
    if (options.epoch !== undefined && options.epoch !== epoch) return { may: false, why: 'other-epoch', epoch };
    if (!this.#trusts(registration)) return notKnown('the lease in the directory was not renewed in time');
    try {
      const verdict = await this.#ask(id, epoch, registration, { ...options, timeoutMs: by - performance.now() });
      return verdict.may ? this.#stillTrue(id, verdict, registration) : verdict;
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      if (!this.#trusts(registration)) return notKnown(`the directory does not answer: ${error.message}`);
      // Another owner may have appeared while we waited.
      return this.#claims.epochOf(id) === epoch ? { may: true, epoch, by: 'lease' } : this.#notHeld(id);
    }
  }

  /** Leaves: the entry disappears at once if etcd answers. The domains stay ours. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#running;
    this.#claims.close();
    await this.#registration?.end();
    this.#registration = undefined;
    await this.#watcher[Symbol.asyncDispose]();
    this.#stand({ is: 'joining', why: 'it has left' });
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { log, ttlSeconds = 15 } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      const looked = this.changes.now;
      try {
        await this.#leaveLost();
        const registration = (this.#registration ??= await this.#register());
        await this.#claims.settle(registration.epoch, signal);
        failures = 0;
        await this.changes.after(looked, { signal, timeoutMs: this.#claims.anyContested ? RECHECK_MS : undefined });
        if (this.changes.now === looked) this.#claims.reopenContested();
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof HostNameTaken) {
          log.error({ error: error.message }, 'The directory refuses this host');
          this.#stand({ is: 'refused', why: error });
          await pause(ttlSeconds * 1000, signal);
        } else if (error instanceof EtcdError) {
          const level = failures === 0 ? 'warn' : 'debug';
          log[level]({ error: error.message }, 'This host and its domains are not all in the directory yet');
          if (this.#standing.is === 'joining') this.#stand({ is: 'joining', why: error.message });
          await pause(retryInMs(failures++), signal);
        } else {
          throw error;
        }
      }
    }
  }

  async #register(): Promise<Registration> {
    const { etcd, host, log, ttlSeconds = 15 } = this.#options;
    const registration = await Registration.make({
      etcd,
      watcher: this.#watcher,
      host,
      ttlSeconds,
      takesOver: !this.#superseded,
      log,
      changed: () => this.changes.notify(),
      signal: this.#closing.signal,
    });
    this.#claims.reopen();
    this.#stand({ is: 'member' });
    log.info({ host: host.name }, 'This host is in the directory');
    return registration;
  }

  async #leaveLost(): Promise<void> {
    const loss = this.#registration?.loss;
    if (loss === undefined) return;
    this.#options.log.warn({ why: loss }, 'This host is not in the directory any more');
    this.#stand({ is: 'joining', why: loss });
    this.#superseded ||= loss === 'superseded';
    const lost = this.#registration;
    this.#registration = undefined;
    await lost?.end();
  }

  /** Waits until the owner of the domain is known, for as long as there is time. */
  async #decided(id: string, by: number, signal: AbortSignal | undefined): Promise<void> {
    for (;;) {
      const looked = this.changes.now;
      const timeoutMs = by - performance.now();
      if (!this.#claims.isPending(id) || timeoutMs <= 0 || signal?.aborted === true) return;
      await this.changes.after(looked, { timeoutMs, signal });
    }
  }

  /** From etcd itself: is the domain ours now? */
  async #ask(id: string, epoch: bigint, { epoch: hostEpoch }: Registration, options: LookOptions): Promise<Verdict> {
    const { etcd, host } = this.#options;
    const when = [modifiedAt(domainKey(id), epoch), modifiedAt(hostKey(host.name), hostEpoch)];
    const { held, found } = await etcd.txn({ when, ifSo: [], ifNot: [read(domainKey(id))] }, options);
    if (held) return { may: true, epoch, by: 'directory' };
    const [entry] = found;
    if (entry?.modRevision === epoch) return notKnown('this host has just lost its entry in the directory');
    this.#claims.doubt(id);
    const owner = entry && readDomain(entry)?.host;
    return { may: false, why: 'not-owner', owner: owner === host.name ? undefined : owner };
  }

  /** An answer may be delayed: its state may have ended since, or be known to us already. */
  #stillTrue(id: string, verdict: Verdict & { readonly may: true }, registration: Registration): Verdict {
    if (!this.#trusts(registration)) return notKnown('the directory answered too late');
    return this.#claims.epochOf(id) === verdict.epoch ? verdict : this.#notHeld(id);
  }

  /** Others have heard of a later change than we have. Our own list does not show a change that leaves us the owner. */
  #isOld(id: string, heard: bigint | undefined): boolean {
    const epoch = this.#claims.epochOf(id);
    return epoch !== undefined && heard !== undefined && heard > epoch;
  }

  #notHeld(id: string): Verdict {
    if (this.#standing.is === 'refused') return notKnown(this.#standing.why.message);
    if (this.#standing.is === 'joining') return notKnown(`this host is not in the directory: ${this.#standing.why}`);
    if (this.#claims.isPending(id)) return notKnown('the domain is not in the directory yet');
    return { may: false, why: 'not-owner', owner: this.#claims.ownerOf(id) };
  }

  #trusts({ certainForMs, loss }: Registration): boolean {
    return loss === undefined && certainForMs > (this.#options.marginMs ?? 2_000);
  }

  #stand(standing: Standing): void {
    this.#standing = standing;
    this.changes.notify();
  }
}

function notKnown(text: string): Verdict {
  return { may: false, why: 'not-known', text };
}
