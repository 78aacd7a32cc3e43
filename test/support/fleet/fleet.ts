/** Members and followers of a directory in etcd, for tests. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import type { Found, HostedDomain } from '../../../src/fleet/directory/directory.ts';
import { EtcdDirectory } from '../../../src/fleet/directory/etcd-directory.ts';
import { type CallOptions, Etcd } from '../../../src/fleet/etcd/client.ts';
import type { Entry, KeyRange } from '../../../src/fleet/etcd/keys.ts';
import { EtcdMembership } from '../../../src/fleet/membership/etcd-membership.ts';
import { within } from '../real-qemu/qemu.ts';
import { until } from '../until.ts';

const log = pino({ level: 'silent' });

/** All entries of a range, in their order. */
export async function entriesIn(etcd: Etcd, range: KeyRange, options?: CallOptions): Promise<readonly Entry[]> {
  const all: Entry[] = [];
  await etcd.readAll(range, (entries) => all.push(...entries), options);
  return all;
}

export class Member extends EtcdMembership {
  readonly #etcd: Etcd;

  private constructor(etcd: Etcd, name: string, instance: string, ttlSeconds: number) {
    const host = { name, address: `${name}:50051`, identity: `spiffe://test/${name}`, version: '1', instance };
    super({ etcd, host, ttlSeconds, marginMs: 500, log });
    this.#etcd = etcd;
  }

  static on(
    endpoint: string | readonly string[],
    name: string,
    { instance = `of ${name}`, ttlSeconds = 3 } = {},
  ): Member {
    return new Member(new Etcd({ endpoints: [endpoint].flat() }), name, instance, ttlSeconds);
  }

  /** Advertises these, and waits until it owns them. */
  async own(...ids: readonly string[]): Promise<void> {
    this.run(...ids);
    await until(`the ownership of ${ids.join()}`, this.changes, () => ids.every((id) => this.owns(id)));
  }

  run(...ids: readonly string[]): void {
    this.advertise(
      ids.map((id) => ({ id, name: `vm-${id}` })),
      { complete: true },
    );
  }

  /** In words: `may by directory`, `not-owner: b`, `not-known`. */
  async verdict(id: string, epoch?: bigint): Promise<string> {
    const verdict = await this.mayAct(id, { timeoutMs: 1_000, ...(epoch === undefined ? {} : { epoch }) });
    if (verdict.may) return `may by ${verdict.by}`;
    return verdict.why === 'not-owner' ? `not-owner: ${verdict.owner}` : verdict.why;
  }

  /** Asks again and again: no event announces a verdict. */
  async untilVerdict(expected: string, id: string, epoch?: bigint): Promise<void> {
    const by = performance.now() + 25_000;
    for (let last = ''; last !== expected; last = await this.verdict(id, epoch)) {
      if (performance.now() > by) throw new Error(`the verdict on ${id} is ${last} for 25 s, not ${expected}`);
      await sleep(20);
    }
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    this.#etcd[Symbol.dispose]();
  }
}

/** A gateway's view. */
export class Gateway extends EtcdDirectory {
  readonly #etcd: Etcd;

  private constructor(etcd: Etcd) {
    super(etcd, log);
    this.#etcd = etcd;
  }

  static async on(endpoint: string | readonly string[]): Promise<Gateway> {
    const gateway = new Gateway(new Etcd({ endpoints: [endpoint].flat() }));
    await gateway.until('live', () => gateway.freshness.live);
    return gateway;
  }

  async until(what: string, done: () => boolean, ms?: number): Promise<void> {
    await until(what, this.changes, done, ms);
  }

  /** The known domain; throws if it is not known. */
  domain(id: string): HostedDomain {
    return domainOf(this.find(id));
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    this.#etcd[Symbol.dispose]();
  }
}

export function domainOf(found: Found): HostedDomain {
  if (found.is !== 'one') throw new Error(`found ${found.is}`);
  return found.domain;
}

/** A member that is a process of its own. */
export class MemberProcess implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async on(
    endpoint: string,
    name: string,
    ttlSeconds: number,
    domains: readonly string[],
  ): Promise<MemberProcess> {
    const script = join(import.meta.dirname, 'fleet-member.ts');
    const args = [script, endpoint, name, `of ${name}`, String(ttlSeconds), ...domains];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const joined = once(createInterface({ input: child.stdout }), 'line');
    await within(60_000, 'a member', joined);
    return new MemberProcess(child);
  }

  /** Returns its exit code, or the signal that ended it. */
  async signal(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | string> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return 'gone before';
    const exit = once(this.#child, 'exit');
    this.#child.kill(signal);
    const [code, by] = (await within(30_000, 'its end', exit)) as [number | null, string | null];
    return code ?? by ?? 'unknown';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.signal('SIGKILL');
  }
}
