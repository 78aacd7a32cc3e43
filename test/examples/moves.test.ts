/**
 * Clients in four languages, built in an empty folder from the published module alone, as npm packs it. Each moves two
 * disks of a real QEMU, and watches both copies by one stream. The service is killed meanwhile, and has new entries when
 * it is back: the client comes back with its token, and gets each entry once and in order.
 */
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { present } from '../support/checks.ts';
import { freePort } from '../support/fleet/etcd.ts';
import { TcpProxy } from '../support/hostile/tcp-proxy.ts';
import { type Means, needs, PYTHON } from '../support/means.ts';
import { makeChain, type Qemu, run, startQemu, testDir, within } from '../support/real-qemu/qemu.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';
import { type Example, Running } from './running.ts';

const MIB = 1 << 20;
/** So slow that no copy is READY before it is told to be fast. */
const SLOW_BYTES_PER_SECOND = 64 * 1024;
/** A Go that has built nothing yet builds its own library first, and Java compiles all stubs. */
const BUILD_MS = 600_000;
const DISKS = ['vd0', 'vd1'] as const;
/** The states in a journal, from the first entry to the last. */
const STATES = ['STARTING', 'RUNNING', 'READY', 'PIVOTING', 'COMPLETED'].map((name) => `STATE_${name}`);

interface Entry {
  readonly job: string;
  readonly revision: number;
  readonly kind: string;
  readonly state: string;
}

interface Language {
  readonly means: readonly Means[];
  /** In the folder of the example, with the module beside it. */
  readonly build: readonly string[];
  readonly program: string;
  readonly args?: readonly string[];
}

const PROTO = '../package/proto';
const LANGUAGES: Readonly<Record<string, Language>> = {
  python: {
    means: ['python-grpc'],
    build: ['./generate.sh', PROTO],
    program: PYTHON,
    args: ['move_disks.py'],
  },
  go: { means: ['go-grpc'], build: ['./build.sh', PROTO, 'movedisks'], program: './movedisks' },
  node: {
    means: [],
    // npm installs it in the same way, except that the dependencies of the client come from this repository.
    build: [
      'sh',
      '-ec',
      'mkdir node_modules; cp -r ../package node_modules/blockjobd-client; ln -s "$1/@bufbuild" "$1/@grpc" node_modules',
      'sh',
      join(REPOSITORY, 'node_modules'),
    ],
    program: process.execPath,
    args: ['move-disks.js'],
  },
  java: {
    means: ['java-grpc'],
    build: ['./build.sh', PROTO, 'movedisks.jar'],
    program: 'java',
    args: ['-jar', 'movedisks.jar'],
  },
};

/** The entries that a client has printed, by job, in its order. */
function entriesIn({ lines }: Running): ReadonlyMap<string, readonly Entry[]> {
  const all = lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Entry);
  return Map.groupBy(all, ({ job }) => job);
}

/** The faults in the order of the entries that a client has printed: gaps and repetitions. */
function faultsIn(client: Running): readonly string[] {
  const gaps = [...entriesIn(client)].flatMap(([job, entries]) =>
    entries.flatMap(({ revision }, at) => (revision === at + 1 ? [] : [`${job}: ${revision} is number ${at + 1}`])),
  );
  return [...gaps, ...client.lines.filter((line) => line.endsWith(' again'))];
}

describe.skipIf(needs('qemu'))('a client that is built from the published module alone', () => {
  const opened = new AsyncDisposableStack();
  /** The folder of the published module, unpacked: package/. */
  let dir: string;
  let qemu: Qemu;
  let service: Service;
  let port: number;
  /** The way of the clients to the service. */
  let way: TcpProxy;

  const serve = async () => {
    service = await Service.start({ dir, qmp: { vm1: qemu.qmpPath }, allow: [dir], listen: `127.0.0.1:${port}` });
    await service.domainUp('vm1');
  };

  beforeAll(async () => {
    ({ path: dir } = opened.use(await testDir()));
    const pack = 'cd "$1" && npm pack --silent "$2" && mv blockjobd-client-*.tgz module.tgz && tar -xzf module.tgz';
    await run('sh', ['-ec', pack, 'sh', dir, join(REPOSITORY, 'dist/blockjobd-client')]);
    const disks = await Promise.all(
      DISKS.map(async (id) => {
        const chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: 8 * MIB, prefix: id });
        return { id, bus: 'virtio-blk', chain } as const;
      }),
    );
    qemu = opened.use(await startQemu({ style: 'blockdev', name: 'vm1', disks }));
    port = await freePort();
    await serve();
    opened.defer(async () => await service.kill());
    way = opened.use(await TcpProxy.to(port));
  });
  afterAll(async () => await opened.disposeAsync());

  async function built(name: string): Promise<Example> {
    const { build, program, args = [] } = present(LANGUAGES[name]);
    const folder = join(dir, name);
    await cp(join(REPOSITORY, 'examples', name), folder, { recursive: true });
    await run('env', ['-C', folder, ...build], { timeoutMs: BUILD_MS });
    return { program, args, cwd: folder };
  }

  /** Moves both disks by a client; kills the service while it watches, and gives it new entries before it is back. */
  async function moved(example: Example, name: string): Promise<Running> {
    const destinations = DISKS.map((id) => join(dir, `${name}-${id}.qcow2`));
    const moves = DISKS.flatMap((id, at) => ['vm1', id, present(destinations[at])]);
    using client = new Running(example, [`127.0.0.1:${way.port}`, String(SLOW_BYTES_PER_SECOND), ...moves]);
    const ids = await client.until('both copies to run', () => {
      const running = [...entriesIn(client)].filter(([, all]) => all.some(({ state }) => state === 'STATE_RUNNING'));
      return running.length === DISKS.length ? running.map(([id]) => id) : undefined;
    });
    await service.kill();
    await client.says(/the service is away/);
    way.cut();
    await serve();
    for (const id of ids) {
      await service.pause(id);
      await service.resume(id);
    }
    way.pass();
    for (const id of ids) await service.setSpeed(id, 0n);
    expect(await within(60_000, 'the end of the client', client.ended)).toBe(0);
    return client;
  }

  describe.each(Object.entries(LANGUAGES))('in %s', (name, { means }) => {
    test.skipIf(needs(...means))(
      'starts copies, gets each entry once and in order over a restart, and pivots',
      { timeout: BUILD_MS + 300_000 },
      async () => {
        using client = await moved(await built(name), name);
        expect(faultsIn(client)).toEqual([]);
        const jobs = entriesIn(client);
        expect(jobs.size).toBe(DISKS.length);
        for (const [id, entries] of jobs) {
          const { revision } = await service.getInfo(id);
          expect(entries.at(-1)).toMatchObject({ revision: Number(revision), state: 'STATE_COMPLETED' });
          const states = entries.map(({ state }) => state);
          expect(states.filter((state, at) => state !== states[at - 1])).toEqual(STATES);
          const kinds = entries.map(({ kind }) => kind);
          expect(kinds).toEqual(expect.arrayContaining(['KIND_PAUSED', 'KIND_RESUMED', 'KIND_SPEED']));
        }
        const files = DISKS.map(async (id) => (await qemu.admin.block(id)).inserted?.file);
        expect(await Promise.all(files)).toEqual(DISKS.map((id) => join(dir, `${name}-${id}.qcow2`)));
      },
    );
  });

  describe.skipIf(needs('python-grpc'))('and that handles its token wrongly', () => {
    const keep = 'token = message.resume_token or token';
    test.each([
      ['forgets it', 'token = ""', / is number /],
      ['keeps the first one', 'token = token or message.resume_token', / again$/],
    ])('is found out when it %s', async (what, instead, fault) => {
      const example = await built('python');
      const path = join(present(example.cwd), 'move_disks.py');
      const right = await readFile(path, 'utf8');
      expect(right).toContain(keep);
      await writeFile(path, right.replace(keep, instead));
      using client = await moved(example, what.replaceAll(' ', '-'));
      expect(faultsIn(client)).toContainEqual(expect.stringMatching(fault));
    });
  });
});
