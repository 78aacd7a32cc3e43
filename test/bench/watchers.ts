/**
 * make bench: the costs of many watchers of one job, and beside them those of a bare grpc-js server that writes one
 * buffer, encoded once, to as many streams. Both have the same clients, in processes of their own, which only count.
 * `WATCHERS=2000` has fewer than 10,000, and `QUIET=9000` waits less than a minute.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';
import { BlockJobServiceService, WatchJobRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { present } from '../support/checks.ts';
import { callHeaders, FLAG, frame, message, SETTING, settings, TYPE, uint32 } from '../support/hostile/http2-frames.ts';
import { useOf } from '../support/memory.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { AS_BYTES, byId } from '../support/service/caller.ts';
import type { Figure } from './figure.ts';

const MANY = Number(process.env['WATCHERS'] ?? 10_000);
const FEW = Math.min(2000, MANY);
const CLIENTS = 4;
/** The watches of one connection: four fifths of its calls. */
const WATCHES = 400;
const QUIET_MS = Number(process.env['QUIET'] ?? 60_000);
const COUNTED_MS = QUIET_MS / 3;
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const LARGEST_WINDOW = 2 ** 31 - 1;
/** The limits of the service are lifted for the bench. */
const LIMITS = ['--max-watchers', String(MANY), '--max-watches', String(2 * MANY)];

/** The messages in the data of a connection, counted by their prefixes. */
class Counted {
  messages = 0;
  bytes = 0;
  /** The streams that have had one. */
  readonly begun = new Set<number>();
  #unread: Buffer = Buffer.alloc(0);
  /** The rest of a message that has begun, by stream. */
  readonly #rest = new Map<number, number>();

  /** Returns the frames that the server expects as an answer. */
  read(chunk: Buffer): Buffer[] {
    const all = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
    const answers: Buffer[] = [];
    let at = 0;
    while (all.length - at >= 9) {
      const end = at + 9 + all.readUIntBE(at, 3);
      if (end > all.length) break;
      const [type, flags, stream] = [all[at + 3], all[at + 4] ?? 0, all.readUInt32BE(at + 5)];
      const isAck = (flags & FLAG.ack) !== 0;
      if (type === TYPE.data) this.#count(stream, all.subarray(at + 9, end));
      if (type === TYPE.settings && !isAck) answers.push(frame(TYPE.settings, FLAG.ack, 0));
      if (type === TYPE.ping && !isAck) answers.push(frame(TYPE.ping, FLAG.ack, 0, all.subarray(at + 9, end)));
      const ended = type === TYPE.reset || (type === TYPE.headers && (flags & FLAG.endStream) !== 0);
      if (ended) throw new Error(`stream ${stream} has ended: ${all.subarray(at + 9, end).toString('latin1')}`);
      at = end;
    }
    this.#unread = all.subarray(at);
    return answers;
  }

  #count(stream: number, data: Buffer): void {
    let at = this.#rest.get(stream) ?? 0;
    while (at < data.length) {
      this.messages += 1;
      at += 5 + data.readUInt32BE(at + 1);
    }
    this.#rest.set(stream, at - data.length);
    this.bytes += data.length;
    this.begun.add(stream);
  }
}

interface Counts {
  readonly messages: number;
  readonly bytes: number;
}

/** A process of clients: says "begun" when all streams have had a message, and then its counts for each line that it gets. */
async function beClient([port = '', path = '', request = '', watches = '']: readonly string[]): Promise<void> {
  const left = Array.from({ length: Math.ceil(Number(watches) / WATCHES) }, (_, at) =>
    Math.min(WATCHES, Number(watches) - at * WATCHES),
  );
  const body = message(Buffer.from(request, 'hex'));
  const all = left.map((streams) => {
    const counted = new Counted();
    const socket = connect(Number(port), '127.0.0.1');
    const values = settings({ [SETTING.initialWindow]: LARGEST_WINDOW });
    socket.write(Buffer.concat([PREFACE, values, frame(TYPE.window, 0, 0, uint32(LARGEST_WINDOW - 65_535))]));
    const calls = Array.from({ length: streams }, (_, at) => [
      frame(TYPE.headers, FLAG.endHeaders, 2 * at + 1, callHeaders(path)),
      frame(TYPE.data, FLAG.endStream, 2 * at + 1, body),
    ]);
    socket.write(Buffer.concat(calls.flat()));
    socket.on('data', (chunk) => {
      for (const answer of counted.read(chunk)) socket.write(answer);
    });
    socket.on('close', () => {
      throw new Error('the connection has ended');
    });
    return { counted, streams };
  });
  while (all.some(({ counted, streams }) => counted.begun.size < streams)) await sleep(50);
  process.stdout.write('begun\n');
  for await (const _ of createInterface({ input: process.stdin })) {
    const sum = (of: keyof Counts) => all.reduce((before, { counted }) => before + counted[of], 0);
    process.stdout.write(`${JSON.stringify({ messages: sum('messages'), bytes: sum('bytes') } satisfies Counts)}\n`);
  }
  process.exit();
}

/** A bare server: one buffer for all streams. Prints its port. */
async function bePeer([bytes = '', intervalMs = '']: readonly string[]): Promise<void> {
  const server = new Server({ 'grpc.max_concurrent_streams': WATCHES + 100 });
  const streams = new Set<ServerWritableStream<unknown, Buffer>>();
  const buffer = Buffer.alloc(Number(bytes), 1);
  const { path } = BlockJobServiceService.watchJob;
  const watch = { path, requestStream: false, responseStream: true, ...AS_BYTES } as const;
  server.addService({ watch }, { watch: (call: ServerWritableStream<unknown, Buffer>) => streams.add(call) });
  setInterval(() => {
    for (const stream of streams) stream.write(buffer);
  }, Number(intervalMs));
  const port = await new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  process.stdout.write(`${String(port)}\n`);
}

function role(name: string, ...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [import.meta.filename, name, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
}

async function lineOf(child: ChildProcess): Promise<string> {
  const lines = createInterface({ input: present(child.stdout ?? undefined) });
  const ended = new AbortController();
  child.once('exit', () => ended.abort(new Error('a process has ended')));
  const [line] = await once(lines, 'line', { signal: ended.signal });
  lines.close();
  return String(line);
}

interface Load {
  readonly watchers: number;
  readonly intervalMs: number;
}

interface Measured {
  readonly messagesPerCpuSecond: number;
  readonly messageBytes: number;
  readonly perSecond: number;
  readonly residentMib: number;
  readonly kibEach: number;
  readonly coreShare: number;
}

/** The use of a server while clients watch. `request` is the request of each. */
async function watched(server: { readonly pid: number }, port: string, request: Uint8Array, { watchers }: Load) {
  const before = useOf(server);
  const { path } = BlockJobServiceService.watchJob;
  const each = Math.ceil(watchers / CLIENTS);
  const clients = Array.from({ length: CLIENTS }, () =>
    role('client', port, path, Buffer.from(request).toString('hex'), String(each)),
  );
  try {
    await Promise.all(clients.map(lineOf));
    await sleep(QUIET_MS - COUNTED_MS);
    const look = async () => {
      const use = useOf(server);
      const counts = await Promise.all(
        clients.map(async (client) => {
          client.stdin?.write('\n');
          return JSON.parse(await lineOf(client)) as Counts;
        }),
      );
      const sum = (of: keyof Counts) => counts.reduce((all, one) => all + one[of], 0);
      return { use, atMs: performance.now(), messages: sum('messages'), bytes: sum('bytes') };
    };
    const first = await look();
    await sleep(COUNTED_MS);
    const last = await look();
    const messages = last.messages - first.messages;
    const cpuMs = last.use.cpuMs - first.use.cpuMs;
    return {
      messagesPerCpuSecond: (messages * 1000) / cpuMs,
      messageBytes: Math.round(last.bytes / last.messages) - 5,
      perSecond: (messages * 1000) / (last.atMs - first.atMs),
      residentMib: last.use.residentMib,
      kibEach: ((last.use.residentMib - before.residentMib) * 1024) / watchers,
      coreShare: (100 * cpuMs) / (last.atMs - first.atMs),
    } satisfies Measured;
  } finally {
    for (const client of clients) client.kill();
  }
}

async function ours(load: Load): Promise<Measured> {
  await using site = await Site.open([], ['--log-level', 'info', '--listen', '127.0.0.1:0', ...LIMITS]);
  await using machine = await site.machine({ formats: ['raw'], sizeBytes: 64 * MIB });
  const target = { $case: 'file', value: join(machine.dir, 'copy') } as const;
  const { id } = await site.service.startCopy({
    disk: machine.disk,
    destination: { target },
    bandwidthBytesPerSecond: 65_536n,
  });
  const progressInterval = {
    seconds: BigInt(Math.floor(load.intervalMs / 1000)),
    nanos: (load.intervalMs % 1000) * 1e6,
  };
  const request = WatchJobRequest.encode(WatchJobRequest.fromPartial({ job: byId(id), progressInterval })).finish();
  const port = present(site.service.address.split(':').at(-1));
  const measured = await watched(site.service, port, request, load);
  await site.service.abort({ job: byId(id), force: true });
  return measured;
}

async function peers(load: Load, messageBytes: number): Promise<Measured> {
  const peer = role('peer', String(messageBytes), String(load.intervalMs));
  try {
    return await watched({ pid: present(peer.pid) }, await lineOf(peer), Buffer.alloc(40), load);
  } finally {
    peer.kill();
  }
}

/** One round: each load with the service, and then with the peer. */
export async function measure(): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  const loads = [
    { watchers: MANY, intervalMs: 1000 },
    { watchers: FEW, intervalMs: 100 },
  ];
  for (const load of loads) {
    const what = `${load.watchers} watchers of one job, ${1000 / load.intervalMs} messages a second each`;
    const us = await ours(load);
    const peer = await peers(load, us.messageBytes);
    for (const [by, one] of [
      ['blockjobd', us],
      ['bare grpc-js', peer],
    ] as const) {
      const tell = (unit: string, value: number) => figures.push({ what, by, unit, values: [value] });
      tell('messages a second', one.perSecond);
      tell('% of a core', one.coreShare);
      tell('messages a second of a core', one.messagesPerCpuSecond);
      tell('MiB after a minute', one.residentMib);
      tell('KiB a watcher', one.kibEach);
    }
  }
  return figures;
}

if (import.meta.main) {
  const [name, ...args] = process.argv.slice(2);
  if (name === 'client') await beClient(args);
  if (name === 'peer') await bePeer(args);
}
