/** The allowed imports, and the actions that only few files may do: read from the sources themselves. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');

interface Source {
  /** As `src/core/job/job.ts`. */
  readonly path: string;
  readonly lines: readonly string[];
  /** The same lines without comments, strings and regular expressions. */
  readonly code: readonly string[];
}

interface Import {
  readonly from: string;
  readonly line: number;
  readonly names: readonly string[];
  /** A path of ours (`src/core/job/job.ts`, `generated/…`), or a package (`node:fs`, `@grpc/grpc-js`). */
  readonly what: string;
}

/** Replaces everything that is not code by blanks; lines stay. */
function codeOf(text: string): string {
  const notCode =
    /\/\/.*|\/\*[\s\S]*?\*\/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|(?<=[(,=:?&|{};[]\s*|return\s+)\/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n[*])(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n[])*\/[a-z]*/g;
  return text.replaceAll(notCode, (found) => `''${found.replaceAll(/[^\n]/g, '')}`);
}

function sourceOf(path: string, text: string): Source {
  return { path, lines: text.split('\n'), code: codeOf(text).split('\n') };
}

const sources: readonly Source[] = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .toSorted()
  .map((name) => sourceOf(`src/${name}`, readFileSync(join(ROOT, 'src', name), 'utf8')));

function importsOf({ path, lines }: Source): Import[] {
  const text = lines.join('\n');
  const statements =
    /^(?:import|export)\s+(?:type\s+)?(?:((?:\w+\s*,\s*)?(?:\w+|\*(?:\s*as\s+\w+)?|\{[^}]*\}))\s*from\s*)?['"]([^'"\n]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm;
  return [...text.matchAll(statements)].flatMap((found) => {
    const specifier = found[2] ?? found[3];
    if (specifier === undefined) return [];
    const names = (found[1] ?? '')
      .split(/[{},\s]+/)
      .filter((word) => !['', 'type', 'import', 'as', '*'].includes(word));
    const ours = specifier.startsWith('.');
    return {
      from: path,
      line: text.slice(0, found.index).split('\n').length,
      names,
      what: ours ? relative(ROOT, resolve(ROOT, dirname(path), specifier)) : specifier,
    };
  });
}

const imports = sources.flatMap(importsOf);

/**
 * `core` for src/core/rules/rule.ts, `main.ts` for src/main.ts, `generated` for generated files. The client of etcd is
 * a part of its own, and so is its generated code.
 */
function partOf(path: string): string {
  const etcd = /^src\/(fleet\/etcd)\/|^(generated\/etcd)\//.exec(path);
  const [first = '', second = ''] = path.split('/');
  return etcd?.[1] ?? etcd?.[2] ?? (first === 'src' ? second : first);
}

/** The allowed imports of each part: parts of ours, and packages. A package that ends with * stands for all of it. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: ['core'],
  // The version is in the package's manifest.
  lib: ['lib', 'node:*', 'package.json'],
  qmp: ['qmp', 'node:*'],
  watch: ['watch', 'core', 'lib'],
  agent: ['agent', 'watch', 'core', 'qmp', 'lib', 'node:*', 'pino', 'p-limit'],
  grpc: [
    'grpc',
    'core',
    'lib',
    'generated',
    'node:*',
    'pino',
    '@grpc/*',
    '@connectrpc/*',
    '@bufbuild/protobuf*',
    'grpc-health-check',
  ],
  page: ['page', 'grpc', 'core', 'lib', 'node:*', 'pino'],
  fleet: ['fleet', 'fleet/etcd', 'watch', 'core', 'lib', 'node:*', 'pino'],
  'fleet/etcd': ['fleet/etcd', 'lib', 'generated/etcd', 'node:*', '@grpc/grpc-js'],
  client: ['client', 'generated', 'node:*', '@grpc/grpc-js'],
  cli: ['cli', 'client', 'lib', 'node:*', 'commander', 'cli-progress', 'yaml'],
  'blockjob.ts': ['cli', 'node:*'],
  access: ['access', 'core', 'lib', 'node:*', 'pino'],
  metrics: ['metrics', 'core', 'lib', 'node:*', 'pino', 'prom-client'],
  tracing: ['tracing', 'core', 'lib', 'pino', '@opentelemetry/api', '@opentelemetry/sdk-node'],
  modes: 'modes config access fleet fleet/etcd grpc page agent qmp metrics tracing core lib node:* pino'.split(' '),
  config: ['config', 'core', 'lib', 'node:*', 'commander'],
  'main.ts': ['modes', 'config', 'fleet', 'node:*'],
};

function mayImport({ from, what }: Import): boolean {
  const target = /^(src|generated)\//.test(what) ? partOf(what) : what;
  return (MAY_IMPORT[partOf(from)] ?? []).some((allowed) =>
    allowed.endsWith('*') ? target.startsWith(allowed.slice(0, -1)) : target === allowed,
  );
}

/** The folders of the parts that have layers, from the bottom up. */
const FLOORS: Readonly<Record<string, readonly string[]>> = {
  core: ['qemu', 'disk', 'job', 'moves', 'plans', 'rules'],
  agent: ['host', 'qemu', 'journal', 'files', 'job', 'starts', 'desk'],
  fleet: ['etcd', 'directory', 'membership', 'gateway'],
};

/** Undefined for a file without such a folder. */
function roomOf(path: string): { readonly part: string; readonly floor: number } | undefined {
  const [, part = '', room = ''] = /^src\/([^/]+)\/([^/]+)\//.exec(path) ?? [];
  const floor = FLOORS[part]?.indexOf(room) ?? -1;
  return floor === -1 ? undefined : { part, floor };
}

/** Each file that imports itself through others. */
function circlesIn(all: readonly Pick<Import, 'from' | 'what'>[]): readonly string[] {
  const graph = new Map<string, string[]>();
  for (const { from, what } of all) graph.set(from, [...(graph.get(from) ?? []), what]);
  return [...graph.keys()].filter((start) => {
    const seen = new Set<string>();
    const next = [...(graph.get(start) ?? [])];
    for (let one = next.pop(); one !== undefined; one = next.pop()) {
      if (one === start) return true;
      if (seen.has(one)) continue;
      seen.add(one);
      next.push(...(graph.get(one) ?? []));
    }
    return false;
  });
}

const inWords = ({ from, line, what }: Import) => `${from}:${line} imports ${what}`;

/** Each line of code that matches, with its place. */
function linesWith(pattern: RegExp, among: readonly Source[] = sources, where: 'code' | 'lines' = 'code'): string[] {
  return among.flatMap((source) =>
    source[where].flatMap((text, index) =>
      pattern.test(text) ? `${source.path}:${index + 1}: ${source.lines[index]?.trim()}` : [],
    ),
  );
}

const ANY = /(?<![.\w$'])any\b(?!['(])/;
const NON_NULL = /[\w$)\]]!(?!=)/;
const ENVIRONMENT = /\bprocess\s*(?:\.|\?\.)\s*(?:env|argv)\b|\bprocess\s*\[/;

describe('the sources', () => {
  it('import only the allowed parts of the program', () => {
    expect(imports.filter((one) => !mayImport(one)).map(inWords)).toEqual([]);
  });

  it('have a row in that table for each part', () => {
    const parts = new Set(sources.map(({ path }) => partOf(path)));
    expect([...parts].filter((part) => MAY_IMPORT[part] === undefined)).toEqual([]);
  });

  it('have folders between which imports go down only', () => {
    const up = imports.filter(({ from, what }) => {
      const [here, there] = [roomOf(from), roomOf(what)];
      return here !== undefined && there?.part === here.part && there.floor > here.floor;
    });
    expect(up.map(inWords)).toEqual([]);
  });

  it('have nothing beside these folders except what all of a part share', () => {
    const beside = sources.filter(({ path }) => /^src\/(agent|fleet)\/[^/]+$/.test(path)).map(({ path }) => path);
    expect(beside).toEqual(['src/agent/host-agent.ts']);
    const rooms = new Set(sources.map(({ path }) => /^src\/(?:core|agent|fleet)\/([^/]+)\//.exec(path)?.[1] ?? ''));
    expect([...rooms].filter((room) => room !== '').toSorted()).toEqual(
      [...new Set(Object.values(FLOORS).flat())].toSorted(),
    );
  });

  it('have no import cycles', () => {
    expect(circlesIn(imports)).toEqual([]);
  });

  it('import gRPC and generated files in src/grpc alone, except the clients: of etcd, and of the service', () => {
    const ofGrpc = /^@grpc\/|^@connectrpc\/|^grpc-|^generated\//;
    const others = imports.filter(
      ({ from, what }) => ofGrpc.test(what) && !/^src\/(grpc|fleet\/etcd|client)\//.test(from),
    );
    expect(others.map(inWords)).toEqual([]);
  });

  it('load OpenTelemetry only on request: nobody imports its part at the start', () => {
    const loads = imports.filter(({ what }) => what === 'src/tracing/open-telemetry.ts');
    const lines = loads.map(({ from, line }) => sources.find(({ path }) => path === from)?.lines[line - 1]);
    expect(lines).toEqual([expect.stringContaining('= await import(')]);
  });

  it('construct a logger in one place, where each line is cut; others take its type', () => {
    const logger = imports.filter(({ what, from }) => what === 'pino' && from !== 'src/modes/log.ts');
    expect(logger.filter(({ names }) => names.join() !== 'Logger').map(inWords)).toEqual([]);
  });

  it('read the environment and the command line in src/config and the two started files alone', () => {
    const others = sources.filter(({ path }) => !/^src\/(config\/|main\.ts$|blockjob\.ts$)/.test(path));
    expect(linesWith(ENVIRONMENT, others)).toEqual([]);
    expect(imports.filter(({ what, names }) => what === 'node:process' && names.length > 0).map(inWords)).toEqual([]);
  });

  /** Functions that change nothing. */
  const READING = new Set(
    'access constants FSWatcher lstat readdir readdirSync readFile readFileSync readlink readlinkSync realpath stat statfs watch'.split(
      ' ',
    ),
  );
  /** The files that change files, the functions that they use, and the changed files. */
  const WRITING: Readonly<Record<string, readonly string[]>> = {
    // Journals, and the index.
    'src/agent/journal/journal.ts': ['FileHandle', 'open', 'unlink'],
    'src/agent/journal/journal-folder.ts':
      'BigIntStats closeSync fstatSync lstatSync mkdir open openSync readSync rename unlink'.split(' '),
    'src/agent/journal/journal-index.ts': ['BigIntStats', 'open', 'rename', 'unlink'],
    // The identity of the order of their entries.
    'src/agent/journal/order-file.ts': ['open', 'rename'],
    // The records of held guests.
    'src/agent/journal/hold-file.ts': ['mkdir', 'open', 'rename', 'rm'],
    // Standard output and error.
    'src/modes/outlet.ts': ['fstatSync', 'openSync', 'write', 'writeSync'],
    // Closed to all other users.
    'src/agent/host/own-files.ts': ['Stats', 'chmod', 'open'],
    // The folder itself, and its identity; the lock in it belongs to SQLite.
    'src/agent/journal/state-folder.ts': ['mkdir', 'open', 'writeFile'],
    // For the following files: each call in its turn.
    'src/agent/host/disk-files.ts': ['BigIntStats', 'StatsFs', 'all'],
    // The destination of a copy, and the images that a commit has emptied.
    'src/agent/files/files.ts': ['BigIntStats', 'DiskFile', 'open'],
    'src/agent/host/pinned-folder.ts': ['BigIntStats', 'DiskFile', 'open', 'unlink'],
    // Types alone.
    'src/agent/host/file-identity.ts': ['BigIntStats'],
    'src/agent/files/known-file.ts': ['BigIntStats'],
    // Opens a file by its name, to ask the kernel for its identity.
    'src/agent/host/open-files.ts': ['DiskFile', 'open'],
    // Keeps files open to sync them, and writes nothing.
    'src/agent/files/stable-storage.ts': ['DiskFile'],
    // Reads headers, and asks whether a device is free.
    'src/agent/files/place.ts': ['DiskFile', 'open'],
    // Reads whether an image holds any data.
    'src/agent/starts/reused.ts': ['open'],
    // Its own socket, when nobody listens there any more.
    'src/grpc/listen.ts': ['unlink'],
    // The context in use, on request.
    'src/cli/config-file.ts': ['writeFile'],
  };

  /** Other code of the agent that calls a file system, and which one: none of these hangs with a VM's storage. */
  const OWN_FILES: Readonly<Record<string, string>> = {
    'src/agent/host/disk-files.ts': 'those of disks',
    'src/agent/journal/journal.ts': 'the state folder',
    'src/agent/journal/journal-folder.ts': 'the state folder',
    'src/agent/journal/journal-index.ts': 'the state folder',
    'src/agent/journal/hold-file.ts': 'the state folder',
    'src/agent/journal/order-file.ts': 'the state folder',
    'src/agent/journal/state-folder.ts': 'the state folder',
    'src/agent/host/own-files.ts': 'the state folder',
    'src/agent/host/file-identity.ts': '/sys',
    'src/agent/qemu/qemu-process.ts': '/proc',
    'src/agent/host/proc.ts': '/proc',
    'src/agent/host/sight.ts': '/proc',
    'src/agent/files/place.ts': '/sys',
    'src/agent/qemu/qemu-monitor.ts': 'QMP sockets, with a limit',
    'src/agent/qemu/socket-folder.ts': 'the folders of QMP sockets',
  };

  it('call the file systems of disks, which may hang, in turns', () => {
    const others = imports.filter(({ from, what }) => from.startsWith('src/agent/') && what === 'node:fs/promises');
    expect(others.map(({ from }) => from).toSorted()).toEqual(Object.keys(OWN_FILES).toSorted());
  });

  it('change files in few places: journals, holds, the destination, and the server’s own socket', () => {
    const fileSystem = imports.filter(({ what }) => /^(node:)?fs\b|^src\/agent\/disk-files/.test(what));
    const writing = fileSystem.flatMap((one) =>
      one.names
        .filter((name) => !READING.has(name) && WRITING[one.from]?.includes(name) !== true)
        .map((name) => `${inWords(one)}: ${name}`),
    );
    expect(writing).toEqual([]);
  });

  it('give the page, which is for browsers, one thing: the list of events that are entries of the journal', () => {
    const names = readdirSync(join(ROOT, 'page'), { recursive: true, encoding: 'utf8' });
    const page = names.filter((name) => name.endsWith('.ts')).map((name) => `page/${name}`);
    const all = page.flatMap((path) => importsOf(sourceOf(path, readFileSync(join(ROOT, path), 'utf8'))));
    expect(all.filter(({ what }) => what.startsWith('src/'))).toMatchObject([{ what: 'src/core/job/job-event.ts' }]);
  });

  it('start no other program', () => {
    expect(imports.filter(({ what }) => /^(node:)?(child_process|cluster|vm)$/.test(what)).map(inWords)).toEqual([]);
  });

  it('have no any, no assertion that something is not null, and no open task', () => {
    expect(linesWith(ANY)).toEqual([]);
    expect(linesWith(NON_NULL)).toEqual([]);
    expect(linesWith(/\b(TODO|FIXME|XXX|HACK)\b/, sources, 'lines')).toEqual([]);
    expect(linesWith(/@ts-|oxlint-disable|eslint-disable/, sources, 'lines')).toEqual([]);
  });

  /** The durations for setTimeout and its like elsewhere than in lib/timer, which takes any duration: they do not. */
  const TIMERS: Readonly<Record<string, string>> = {
    'src/lib/timer.ts': 'the helper itself',
    'src/lib/watched-files.ts': 'a constant',
    'src/agent/qemu/virtual-machines.ts': 'a constant',
    'src/agent/job/guest-hold.ts': 'constants',
    'src/agent/job/looks.ts': 'a constant',
    'src/fleet/etcd/watch-session.ts': 'a constant',
    'src/fleet/etcd/back-off.ts': 'at most a sixth of a lease of ten minutes',
    'src/grpc/door/door.ts': 'a constant',
    'src/grpc/door/tally.ts': 'a constant',
    'src/modes/agent.ts': 'a constant',
    'src/modes/outlet.ts': 'constants',
    'src/page/page.ts': 'a constant',
    'src/qmp/calls.ts': 'at most what setTimeout takes, as it imports nothing of src/lib',
    'src/qmp/session.ts': 'constants',
    'src/qmp/monitor.ts': 'at most the five seconds of its back-off',
    'src/client/stream.ts': 'forTimer(), as it imports nothing of src/lib',
    'src/client/persistence.ts': 'forTimer(), as it imports nothing of src/lib',
  };

  it('give a duration that somebody chose, or that was computed, only to a timer of lib', () => {
    const timers = /\b(setTimeout|setInterval)\b|AbortSignal\.timeout\b/;
    const users = sources.filter(({ code }) => code.some((line) => timers.test(line))).map(({ path }) => path);
    expect(users.toSorted()).toEqual(Object.keys(TIMERS).toSorted());
  });

  /** The files that read the host's clock, which can be set at any moment, or calculate with its time. */
  const HOST_CLOCK: Readonly<Record<string, string>> = {
    'src/lib/clock.ts': 'the helper itself',
    'src/metrics/service.ts': 'the end of the certificate, for scrapers',
    'src/client/durations.ts': 'deadlines of gRPC, as it imports nothing of src/lib',
  };

  it('read the host’s clock in one place, and calculate with it nowhere', () => {
    const reading = /\bDate\.(now|parse)\b|\bnew Date\(\)|\bgetTime\(|\btimeOrigin\b.*[-+]/;
    const users = sources.filter(({ code }) => code.some((line) => reading.test(line))).map(({ path }) => path);
    expect(users.toSorted()).toEqual(Object.keys(HOST_CLOCK).toSorted());
  });

  /** Files that may be longer than 250 lines, each with its reason. */
  const LONG: ReadonlyMap<string, string> = new Map([
    ['src/core/catalogue.ts', 'one table: five lines for each reason of the contract'],
  ]);

  it('are files of one noun: shorter than 250 lines', () => {
    const long = sources.filter(({ path, lines }) => lines.length > 250 && !LONG.has(path));
    expect(long.map(({ path, lines }) => `${path} has ${lines.length} lines`)).toEqual([]);
    expect([...LONG.keys()].filter((path) => !sources.some((one) => one.path === path))).toEqual([]);
  });
});

/** The number of lines of a text that each pattern finds. */
const found = (text: string) => [ANY, NON_NULL, ENVIRONMENT].map((one) => linesWith(one, [sourceOf('x', text)]).length);

describe('these checks', () => {
  it('find a cycle', () => {
    const [a, b, c] = ['src/a.ts', 'src/b.ts', 'src/c.ts'];
    const round = [
      { from: a, what: b },
      { from: b, what: a },
      { from: c, what: a },
    ];
    expect(circlesIn(round)).toEqual([a, b]);
  });

  it('find the sources, and every kind of import', () => {
    expect(sources.length).toBeGreaterThan(30);
    const sample = [
      `import { a, type B } from '../lib/wake.ts';`,
      `import type { C } from "pino";`,
      `import * as fs from 'node:fs';`,
      `import 'node:net';`,
      `export { d } from './job/job.ts';`,
      `import {\n  e,\n  f,\n} from '@grpc/grpc-js';`,
      `const g = await import('../agent/journal/journal.ts');`,
    ].join('\n');
    expect(importsOf(sourceOf('src/core/x.ts', sample))).toEqual([
      { from: 'src/core/x.ts', line: 1, names: ['a', 'B'], what: 'src/lib/wake.ts' },
      { from: 'src/core/x.ts', line: 2, names: ['C'], what: 'pino' },
      { from: 'src/core/x.ts', line: 3, names: ['fs'], what: 'node:fs' },
      { from: 'src/core/x.ts', line: 4, names: [], what: 'node:net' },
      { from: 'src/core/x.ts', line: 5, names: ['d'], what: 'src/core/job/job.ts' },
      { from: 'src/core/x.ts', line: 6, names: ['e', 'f'], what: '@grpc/grpc-js' },
      { from: 'src/core/x.ts', line: 10, names: [], what: 'src/agent/journal/journal.ts' },
    ]);
  });

  it.each([
    ['core', 'node:fs', false],
    ['core', 'src/core/job/job.ts', true],
    ['core', 'src/lib/wake.ts', false],
    ['lib', 'src/core/job/job.ts', false],
    ['qmp', 'src/lib/wake.ts', false],
    ['qmp', 'node:net', true],
    ['agent', 'src/grpc/server.ts', false],
    ['agent', 'src/watch/feed.ts', true],
    ['watch', 'src/agent/journal/job-log.ts', false],
    ['watch', 'src/fleet/gateway/shared-watch.ts', false],
    ['grpc', 'src/watch/feed.ts', false],
    ['agent', 'generated/x.ts', false],
    ['fleet', 'src/agent/journal/journal.ts', false],
    ['fleet', 'src/fleet/etcd/client.ts', true],
    ['fleet', '@grpc/grpc-js', false],
    ['fleet/etcd', 'src/fleet/directory/directory.ts', false],
    ['fleet/etcd', 'generated/etcd/etcd.ts', true],
    ['fleet/etcd', 'generated/blockjob/v1/job.ts', false],
    ['grpc', 'generated/etcd/etcd.ts', false],
    ['grpc', 'src/agent/host-agent.ts', false],
    ['client', 'generated/blockjob/v1/job.ts', true],
    ['cli', 'src/client/index.ts', true],
    ['cli', 'src/core/job/job.ts', false],
    ['cli', 'generated/blockjob/v1/job.ts', false],
    ['client', 'src/lib/wake.ts', false],
    ['client', 'src/grpc/status.ts', false],
    ['modes', 'src/agent/host-agent.ts', true],
    ['modes', '@grpc/grpc-js', false],
    ['modes', 'prom-client', false],
    ['agent', 'src/metrics/meters.ts', false],
    ['metrics', 'src/agent/host-agent.ts', false],
    ['qmp', '@opentelemetry/api', false],
  ])('know whether src/%s may import %s', (part, what, expected) => {
    expect(mayImport({ from: `src/${part}/x.ts`, line: 1, names: [], what })).toBe(expected);
  });

  it('distinguish code from comments, strings and regular expressions', () => {
    expect(found('let a: any = b as any;')).toEqual([1, 0, 0]);
    expect(found('Record<string, any>')).toEqual([1, 0, 0]);
    expect(found('a!.b(c!, d[0]!);')).toEqual([0, 1, 0]);
    expect(found('process.env["X"]; process.argv')).toEqual([0, 0, 1]);
    expect(
      found("// any!\n/* process.env */ 'any a!'; `any`; x = /'any!/.test(y); AbortSignal.any([]); a !== b; !c"),
    ).toEqual([0, 0, 0]);
  });
});
