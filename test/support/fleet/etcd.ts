/** Real etcds, each a process of its own on loopback, which tests kill, stop and fill. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { cp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { run, within } from '../real-qemu/qemu.ts';
import { stop } from '../real-qemu/while-stopped.ts';

const START_MS = 60_000;

export interface EtcdServerOptions {
  /** The folder of its data. */
  readonly dir: string;
  /** More options of its command line. */
  readonly args?: readonly string[];
  /** The PEM files that it uses if it listens with TLS: `--cert-file` and so on are in `args`. */
  readonly secure?: boolean;
  /** The options of etcdctl beyond the address. */
  readonly ctl?: readonly string[];
}

export class EtcdServer implements AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly #data: string;
  readonly #args: readonly string[];
  readonly #ctl: readonly string[];
  #child: ChildProcess | undefined;

  private constructor(
    one: Place,
    all: readonly Place[],
    { dir, args = [], secure = false, ctl = [] }: EtcdServerOptions,
  ) {
    this.port = one.port;
    this.url = `${secure ? 'https' : 'http'}://127.0.0.1:${one.port}`;
    this.#ctl = ['--endpoints', this.url, ...ctl];
    this.#data = join(dir, one.name);
    const data = ['--name', one.name, '--data-dir', this.#data, '--logger', 'zap', '--log-outputs', 'stderr'];
    const clients = ['--listen-client-urls', this.url, '--advertise-client-urls', this.url];
    const peers = ['--listen-peer-urls', one.peer, '--initial-advertise-peer-urls', one.peer];
    const cluster = ['--initial-cluster', all.map(({ name, peer }) => `${name}=${peer}`).join()];
    this.#args = [...data, ...clients, ...peers, ...cluster, ...args];
  }

  static async start(options: EtcdServerOptions): Promise<EtcdServer> {
    const place = await placeOf('data');
    const server = new EtcdServer(place, [place], options);
    await server.start();
    return server;
  }

  /** Three members of one cluster. */
  static async three(options: EtcdServerOptions): Promise<[EtcdServer, EtcdServer, EtcdServer]> {
    const places = [await placeOf('m1'), await placeOf('m2'), await placeOf('m3')] as const;
    const servers = places.map((place) => new EtcdServer(place, places, options));
    await Promise.all(servers.map((server) => server.start()));
    return servers as [EtcdServer, EtcdServer, EtcdServer];
  }

  /** Starts it, or starts it again with its data; resolves when it serves. */
  async start(): Promise<void> {
    const env = { PATH: process.env['PATH'] ?? '', ETCDCTL_API: '3' };
    const child = spawn('etcd', this.#args, { stdio: ['ignore', 'ignore', 'pipe'], env });
    this.#child = child;
    const lines = createInterface({ input: child.stderr });
    const said: string[] = [];
    const serves = new Promise<void>((resolve, reject) => {
      lines.on('line', (line) => {
        said.push(line);
        if (/serving (?:insecure )?client (?:requests|traffic)/.test(line)) resolve();
      });
      child.once('exit', (code) => reject(new Error(`etcd ended with ${code}:\n${said.slice(-5).join('\n')}`)));
    });
    await within(START_MS, 'the start of etcd', serves);
  }

  /** Resolves when it is gone, if the signal ends it, or when it does not run any more, if the signal stops it. */
  async signal(signal: 'SIGKILL' | 'SIGTERM' | 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    if (signal === 'SIGSTOP') {
      await stop(child.pid);
      return;
    }
    const exit = once(child, 'exit');
    child.kill(signal);
    if (signal === 'SIGKILL' || signal === 'SIGTERM') await exit;
  }

  async restart(): Promise<void> {
    await this.signal('SIGKILL');
    await this.start();
  }

  /** Stops it for a moment and keeps a copy of its data; the returned function restores it. */
  async backUp(): Promise<() => Promise<void>> {
    const copy = `${this.#data}.backup`;
    await this.signal('SIGTERM');
    await cp(this.#data, copy, { recursive: true });
    await this.start();
    return async () => {
      await this.signal('SIGKILL');
      await rm(this.#data, { recursive: true });
      await cp(copy, this.#data, { recursive: true });
      await this.start();
    };
  }

  /** etcd's own client: its output. */
  async ctl(...args: readonly string[]): Promise<string> {
    return (await run('etcdctl', [...this.#ctl, ...args])).stdout.trim();
  }

  async put(key: string, value: string): Promise<void> {
    await this.ctl('put', key, value);
  }

  async keys(prefix: string): Promise<string[]> {
    const text = await this.ctl('get', prefix, '--prefix', '--keys-only');
    return text.split('\n').filter((line) => line !== '');
  }

  /**
   * Makes a change, and compacts the history up to it. It is a change of its own, because etcd before 3.5.18 does not
   * report deletions of a revision to a watch that begins at that revision.
   */
  async compact(...change: readonly string[]): Promise<void> {
    const made = change.length > 0 ? change : ['put', 'compacted', 'up to here'];
    const { header } = JSON.parse(await this.ctl(...made, '-w', 'json')) as { header: { revision: number } };
    await this.ctl('compact', String(header.revision));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.signal('SIGKILL');
  }
}

interface Place {
  /** The name of the member, and of its folder. */
  readonly name: string;
  readonly port: number;
  readonly peer: string;
}

async function placeOf(name: string): Promise<Place> {
  return { name, port: await freePort(), peer: `http://127.0.0.1:${await freePort()}` };
}

/**
 * A port that was free a moment ago, and not one of those that the system gives to connections: none of them takes it
 * meanwhile.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries += 1) {
    const port = randomInt(20_000, 32_768);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    await new Promise((resolve) => {
      server.close(resolve);
    });
    return port;
  }
  throw new Error('no port is free');
}
