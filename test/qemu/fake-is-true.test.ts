/** The same commands to the fake QEMU and to the real one get the same answers, events and graph, in the same order. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { FakeQemu } from '../support/fake-qemu/fake-qemu.ts';
import { needs } from '../support/means.ts';
import { type Bus, type ImageFormat, makeChain, startQemu, testDir, within } from '../support/real-qemu/qemu.ts';

type Json = Record<string, unknown>;

/** A command, and the event after which the next one is sent (otherwise its answer). */
interface Step {
  readonly execute: string;
  readonly arguments?: Json;
  readonly until?: string;
}

interface Case {
  readonly name: string;
  readonly bus?: Bus;
  readonly sizeBytes?: number;
  /** The images of the disk's chain; otherwise two. */
  readonly images?: 2 | 3;
  readonly format: ImageFormat;
  readonly script: readonly Step[];
}

const ASK: readonly Step[] = [
  { execute: 'query-jobs' },
  { execute: 'query-block-jobs' },
  { execute: 'query-blockstats' },
  { execute: 'query-named-block-nodes', arguments: { flat: true } },
  { execute: 'x-debug-query-block-graph' },
];
const FILE: Step = {
  execute: 'blockdev-add',
  arguments: { driver: 'file', 'node-name': 'c-file', filename: 'DIR/copy', discard: 'unmap' },
};
const ADD: Step = {
  execute: 'blockdev-add',
  arguments: { driver: 'qcow2', 'node-name': 'c', file: 'c-file', backing: null, discard: 'unmap' },
};

function create(size: number, file = 'c-file'): Step {
  const options = { driver: 'qcow2', file, size };
  return { execute: 'blockdev-create', arguments: { 'job-id': 'c-create', options }, until: 'concluded' };
}

function job(verb: string, until?: string, id = 'c'): Step {
  return { execute: `job-${verb}`, arguments: { id }, ...(until === undefined ? {} : { until }) };
}

function mirror(more: Json = {}, until?: string): Step {
  const args = { 'job-id': 'c', device: 'vd0-1', target: 'c', sync: 'full', 'filter-node-name': 'c-filter' };
  return {
    execute: 'blockdev-mirror',
    arguments: { ...args, 'auto-finalize': true, 'auto-dismiss': false, ...more },
    ...(until === undefined ? {} : { until }),
  };
}

function remove(name: string): Step {
  return { execute: 'blockdev-del', arguments: { 'node-name': name } };
}

const SIZE = 2 * 1024 * 1024;
const MADE = [FILE, create(SIZE), job('dismiss', undefined, 'c-create'), ADD];
const AWAY = [remove('c'), remove('c-file')];
/** A slow mirror, which does not become READY within the test. */
const SLOW = { speed: 1, 'buf-size': 65_536 };
const SLOW_COMMIT = { speed: 1 };
const DISMISS = job('dismiss');
const SET_SPEED: Step = { execute: 'block-job-set-speed', arguments: { device: 'c', speed: 65_536 } };
const SOFT: Step = { execute: 'block-job-cancel', arguments: { device: 'c', force: false }, until: 'concluded' };

const STREAM: Step = {
  execute: 'block-stream',
  arguments: {
    'job-id': 'c',
    device: 'vd0-2',
    'base-node': 'vd0-0',
    'backing-file': 'DIR/base',
    'auto-finalize': false,
    'auto-dismiss': true,
  },
  until: 'pending',
};

function commit(more: Json, until?: string): Step {
  const args = { 'job-id': 'c', 'filter-node-name': 'c-filter', 'auto-finalize': true, 'auto-dismiss': false };
  return {
    execute: 'block-commit',
    arguments: { ...args, ...more },
    ...(until === undefined ? {} : { until }),
  };
}

const LIMITS: Step = { execute: 'query-block' };

function limit(more: Json): Step {
  const id = '/machine/peripheral/vd0/virtio-backend';
  const none = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };
  return { execute: 'block_set_io_throttle', arguments: { id, ...none, ...more } };
}

const CASES: readonly Case[] = [
  {
    name: 'limits of a disk and their group',
    format: 'raw',
    script: [
      LIMITS,
      limit({ bps_wr: 7000, group: 'one' }),
      LIMITS,
      limit({ iops: 50 }),
      LIMITS,
      limit({ bps_wr: 1e15, group: 'other' }),
      LIMITS,
      limit({}),
      LIMITS,
    ],
  },
  {
    name: 'a pull to a base',
    format: 'qcow2',
    images: 3,
    script: [
      STREAM,
      ...ASK,
      { execute: 'stop' },
      job('finalize', 'null'),
      { execute: 'cont' },
      ...ASK,
      remove('vd0-1'),
      remove('vd0-1-file'),
      ...ASK,
    ],
  },
  {
    name: 'a pull of the whole chain',
    format: 'qcow2',
    script: [
      {
        execute: 'block-stream',
        arguments: { 'job-id': 'c', device: 'vd0-1', 'auto-finalize': false, 'auto-dismiss': true },
        until: 'pending',
      },
      ...ASK,
      job('finalize', 'null'),
      ...ASK,
      remove('vd0-0'),
      remove('vd0-0-file'),
    ],
  },
  {
    name: 'a pull that is cancelled',
    format: 'qcow2',
    images: 3,
    script: [
      STREAM,
      STREAM,
      remove('vd0-1'),
      remove('vd0-2'),
      job('cancel', 'null'),
      ...ASK,
      job('finalize'),
      job('cancel'),
    ],
  },
  {
    name: 'a commit of lower images that is cancelled',
    format: 'qcow2',
    images: 3,
    script: [
      commit({ device: 'vd0-2', 'top-node': 'vd0-1', 'base-node': 'vd0-0', ...SLOW_COMMIT }),
      ...ASK,
      remove('vd0-1'),
      remove('vd0-0'),
      remove('vd0-2'),
      job('cancel', 'concluded'),
      ...ASK,
      remove('vd0-1'),
      DISMISS,
      ...ASK,
    ],
  },
  {
    name: 'a commit of lower images',
    format: 'qcow2',
    images: 3,
    script: [
      commit({ device: 'vd0-2', 'top-node': 'vd0-1', 'base-node': 'vd0-0', 'backing-file': 'DIR/base' }, 'concluded'),
      ...ASK,
      remove('vd0-1'),
      DISMISS,
      ...ASK,
      remove('vd0-1'),
      remove('vd0-1-file'),
      ...ASK,
    ],
  },
  {
    name: 'a commit of the active image, and its pivot',
    format: 'qcow2',
    script: [
      commit({ device: 'vd0-1', 'top-node': 'vd0-1', 'base-node': 'vd0-0' }, 'BLOCK_JOB_READY'),
      ...ASK,
      remove('vd0-1'),
      remove('vd0-0'),
      job('complete', 'concluded'),
      ...ASK,
      DISMISS,
      ...ASK,
      remove('vd0-1'),
      remove('vd0-1-file'),
      ...ASK,
    ],
  },
  {
    name: 'a commit of the active image that is ended without a pivot, or by force',
    format: 'qcow2',
    script: [
      commit({ device: 'vd0-1', 'top-node': 'vd0-1', 'base-node': 'vd0-0' }, 'BLOCK_JOB_READY'),
      SOFT,
      ...ASK,
      DISMISS,
      commit({ device: 'vd0-1', 'top-node': 'vd0-1', 'base-node': 'vd0-0' }, 'BLOCK_JOB_READY'),
      job('cancel', 'concluded'),
      DISMISS,
      ...ASK,
    ],
  },
  {
    name: 'a copy and its pivot',
    format: 'qcow2',
    script: [
      ...ASK,
      ...MADE,
      ...ASK,
      mirror({}, 'BLOCK_JOB_READY'),
      ...ASK,
      job('complete', 'concluded'),
      ...ASK,
      remove('vd0-0'),
      DISMISS,
      remove('c'),
      remove('vd0-1'),
      remove('vd0-1-file'),
      remove('vd0-0'),
      remove('vd0-0-file'),
      ...ASK,
    ],
  },
  {
    name: 'the guest is paused for the pivot',
    bus: 'nvme',
    format: 'qcow2',
    script: [
      { execute: 'qom-get', arguments: { path: '/machine/peripheral/vd0', property: 'type' } },
      { execute: 'query-status' },
      ...MADE,
      mirror({}, 'BLOCK_JOB_READY'),
      { execute: 'stop' },
      { execute: 'query-status' },
      job('complete', 'concluded'),
      { execute: 'cont' },
      { execute: 'query-status' },
      DISMISS,
      ...ASK,
    ],
  },
  {
    name: 'a soft end after READY, and a raw destination',
    format: 'raw',
    script: [
      FILE,
      { execute: 'blockdev-add', arguments: { driver: 'raw', 'node-name': 'c', file: 'c-file' } },
      mirror({}, 'BLOCK_JOB_READY'),
      SOFT,
      ...ASK,
      DISMISS,
      ...AWAY,
      ...ASK,
    ],
  },
  {
    name: 'a cancel before READY and one after, by force',
    format: 'qcow2',
    script: [
      ...MADE,
      mirror(SLOW),
      job('cancel', 'concluded'),
      ...ASK,
      DISMISS,
      mirror({}, 'BLOCK_JOB_READY'),
      job('cancel', 'concluded'),
      DISMISS,
      ...AWAY,
      ...ASK,
    ],
  },
  {
    name: 'another limit, a pause, and that it goes on again',
    format: 'qcow2',
    script: [
      ...MADE,
      mirror({}, 'BLOCK_JOB_READY'),
      job('resume'),
      SET_SPEED,
      ...ASK,
      job('pause', 'standby'),
      job('pause'),
      ...ASK,
      SET_SPEED,
      job('resume', 'ready'),
      job('resume'),
      ...ASK,
      job('cancel', 'concluded'),
      SET_SPEED,
      job('pause'),
      job('resume'),
      DISMISS,
      ...AWAY,
    ],
  },
  {
    name: 'refusals',
    format: 'qcow2',
    script: [
      remove('nobody'),
      remove('vd0-0'),
      remove('vd0-1'),
      remove('vd0-1-file'),
      { execute: 'blockdev-add', arguments: { driver: 'file', 'node-name': 'x', filename: 'DIR/absent' } },
      FILE,
      FILE,
      ADD,
      { execute: 'blockdev-add', arguments: { driver: 'qcow2', 'node-name': 'x', file: 'nobody' } },
      create(SIZE, 'nobody'),
      job('dismiss', undefined, 'c-create'),
      create(SIZE),
      create(SIZE),
      job('dismiss', undefined, 'c-create'),
      job('dismiss', undefined, 'c-create'),
      ADD,
      remove('c-file'),
      mirror({ device: 'nobody' }),
      mirror({ device: 'vd0' }),
      mirror({ target: 'nobody' }),
      mirror({ target: 'vd0-1' }),
      mirror({ device: 'vd0-0' }),
      mirror(SLOW),
      mirror(),
      mirror({ 'job-id': 'other', 'filter-node-name': 'other-filter' }),
      job('complete'),
      job('dismiss'),
      remove('c'),
      remove('vd0-1'),
      job('cancel', 'concluded'),
      job('cancel'),
      job('complete'),
      mirror(),
      DISMISS,
      DISMISS,
      job('cancel'),
      job('complete'),
      { execute: 'block-job-cancel', arguments: { device: 'c' } },
      { execute: 'no-such-command' },
      { execute: 'qom-get', arguments: { path: '/machine/peripheral/nobody', property: 'type' } },
      ...ASK,
    ],
  },
  {
    name: 'sizes that differ, told after the answer',
    format: 'qcow2',
    script: [
      FILE,
      create(SIZE / 2),
      job('dismiss', undefined, 'c-create'),
      ADD,
      mirror({}, 'concluded'),
      ...ASK,
      DISMISS,
      ...AWAY,
    ],
  },
  {
    name: 'a disk of zero length: READY before the answer',
    format: 'qcow2',
    sizeBytes: 0,
    script: [
      FILE,
      create(0),
      job('dismiss', undefined, 'c-create'),
      ADD,
      mirror({}, 'BLOCK_JOB_READY'),
      job('complete', 'concluded'),
      DISMISS,
    ],
  },
];

/**
 * QEMU reports the result of the job before its answer, or after it: 10 more often than 7.2, and each on a busy
 * machine.
 */
const ANSWERED_BESIDE: ReadonlySet<string> = new Set(['blockdev-create', 'job-cancel']);

/** Sends a script line by line, and returns all messages in order. */
async function play(path: string, dir: string, script: readonly Step[], at: (step: Step) => void): Promise<Json[]> {
  const socket = createConnection(path);
  using _ = { [Symbol.dispose]: () => void socket.destroy() };
  const lines = linesOf(socket);
  const heard: Json[] = [];
  await within(10_000, 'the greeting', lines.next());
  for (const [id, { execute, arguments: args, until }] of [
    { execute: 'qmp_capabilities' } as Step,
    ...script,
  ].entries()) {
    const step = { execute, arguments: JSON.parse(JSON.stringify(args ?? {}).replaceAll('DIR', dir)) as Json, id };
    socket.write(`${JSON.stringify(step)}\n`);
    const sentAt = heard.length;
    let [answered, refused, seen] = [false, false, until === undefined];
    while (!answered || !(seen || refused)) {
      const { value } = await within(
        20_000,
        `${execute} ${until ?? ''}, after ${JSON.stringify(heard.slice(-5))}`,
        lines.next(),
      );
      if (value === undefined) throw new Error(`the connection has ended at ${execute}`);
      const isAnswer = value['id'] === id;
      const isFirst = isAnswer && ANSWERED_BESIDE.has(execute);
      heard.splice(isFirst ? sentAt : heard.length, 0, normal(execute, value));
      if (isAnswer) {
        answered = true;
        refused = 'error' in value;
        if (!refused) at({ execute, ...(until === undefined ? {} : { until }) });
      }
      const status = (value['data'] as Json | undefined)?.['status'];
      seen ||= until !== undefined && (value['event'] === until || status === until);
    }
  }
  return withoutDrains(heard);
}

/**
 * QEMU drains a disk whenever it changes the graph, and a busy job pauses at that moment: sometimes there is one more
 * pair of statuses. Only `stop` always drains a READY job.
 */
function withoutDrains(heard: readonly Json[]): Json[] {
  const statusOf = (index: number) => (heard[index]?.['data'] as Json | undefined)?.['status'];
  const stopped = (index: number) => heard[index]?.['event'] === 'STOP';
  const drains = (index: number) =>
    (statusOf(index) === 'paused' && statusOf(index + 1) === 'running') ||
    (statusOf(index) === 'standby' && statusOf(index + 1) === 'ready' && !stopped(index - 1));
  return heard.filter((_, index) => !drains(index) && !drains(index - 1));
}

async function* linesOf(socket: Socket): AsyncGenerator<Json, undefined> {
  await once(socket, 'connect');
  let rest = '';
  for await (const chunk of socket.setEncoding('utf8')) {
    const lines = (rest + String(chunk)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) yield JSON.parse(line) as Json;
  }
  return undefined;
}

/**
 * The part of the messages that the fake must have in common with QEMU; numbers that depend on data and time are not
 * part of it.
 */
function normal(execute: string, message: Json): Json {
  const { event, data, error } = message;
  if (event !== undefined)
    return { event, data: pick((data ?? {}) as Json, ['id', 'status', 'device', 'type', 'error']) };
  if (error !== undefined) return { to: execute, error };
  return { to: execute, return: normalReturn(execute, message['return']) };
}

function normalReturn(execute: string, value: unknown): unknown {
  const list = value as Json[];
  switch (execute) {
    case 'query-status':
      // QEMU before 9.0 has `singlestep`, too, which nobody reads.
      return pick(value as Json, ['status', 'running']);
    case 'query-jobs':
      return list.map((one) => pick(one, ['id', 'type', 'status', 'error']));
    case 'query-block-jobs':
      return list.map((one) => pick(one, ['device', 'type', 'status', 'ready', 'paused', 'io-status']));
    case 'query-block':
      return list.map(({ qdev, inserted }) => ({ qdev, ...pick(inserted as Json, ['group', 'bps_wr', 'iops']) }));
    case 'query-blockstats':
      return list.map((one) => pick(one, ['device', 'qdev', 'node-name']));
    case 'query-named-block-nodes':
      return list.map(node).toSorted((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));
    case 'x-debug-query-block-graph':
      return graph(value as { nodes: Json[]; edges: Json[] });
    default:
      return value;
  }
}

function node(one: Json): Json {
  const image = one['image'] as Json;
  return {
    ...pick(one, ['node-name', 'drv', 'ro', 'encrypted', 'cache', 'detect_zeroes']),
    size: one['drv'] === 'file' ? '' : image['virtual-size'],
  };
}

function graph({ nodes, edges }: { nodes: Json[]; edges: Json[] }): string[] {
  const names = new Map(nodes.map((one) => [one['id'], `${one['type'] as string}:${(one['name'] ?? '') as string}`]));
  return edges
    .map(({ parent, name, child }) => `${names.get(parent)} --${String(name)}--> ${names.get(child)}`)
    .toSorted();
}

function pick(from: Json, keys: readonly string[]): Json {
  return Object.fromEntries(keys.flatMap((key) => (key in from ? [[key, from[key]]] : [])));
}

describe.skipIf(needs('qemu'))('the fake QEMU', () => {
  test.each(CASES)(
    'behaves as the real one: $name',
    async ({ script, format, bus = 'virtio-blk', sizeBytes = SIZE, images = 2 }) => {
      await using cleanUp = new AsyncDisposableStack();
      const told: Json[][] = [];
      for (const real of [true, false]) {
        const { path: dir } = cleanUp.use(await testDir('bj-true-'));
        const chain = await makeChain(dir, {
          formats: Array.from({ length: images }, () => 'qcow2' as const),
          sizeBytes,
        });
        await writeFile(`${dir}/copy`, Buffer.alloc(format === 'raw' ? sizeBytes : 0));
        const disks = [{ id: 'vd0', bus, chain }] as const;
        if (real) {
          const qemu = cleanUp.use(await startQemu({ style: 'blockdev', name: 'vm1', disks }));
          told.push(await play(qemu.qmpPath, dir, script, () => undefined));
          continue;
        }
        const socketPath = `${dir}/fake.sock`;
        const fake = cleanUp.use(await FakeQemu.start({ socketPath, name: 'vm1', disks, sizeBytes }));
        const catchUp = ({ execute, until }: Step) => {
          if (!/^block(dev-mirror|-stream|-commit)$/.test(execute) || sizeBytes === 0) return;
          if (until === 'BLOCK_JOB_READY') fake.job('c').becomeReady();
          else if (until !== undefined && execute !== 'blockdev-mirror') fake.job('c').reachEnd();
        };
        told.push(await play(socketPath, dir, script, catchUp));
      }
      const [byQemu, byFake] = told.map((heard) =>
        JSON.parse(
          JSON.stringify(heard)
            .replaceAll(/\/[^"' ]*\/bj-true-[^/"']+/g, 'DIR')
            .replaceAll(/#block\d+/g, '#block'),
        ),
      );
      expect(byFake).toEqual(byQemu);
    },
  );
});
