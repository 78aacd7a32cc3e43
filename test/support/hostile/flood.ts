/**
 * Ways to use up a server, each in a process of its own: `node flood.ts NAME PORT SECONDS [CERTIFICATE KEY CA]`. Prints
 * the line "begun" at its start, continues for the given time, and at last prints its totals as a line of JSON.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { gzipSync } from 'node:zlib';
import { credentials, type ServiceError } from '@grpc/grpc-js';
import { DomainServiceClient, type ListDomainsResponse } from '../../../generated/blockjob/v1/domain_service.ts';
import { callHeaders, FLAG, Frames, frame, message, SETTING, settings, TYPE, uint32 } from './http2-frames.ts';

const LIST = '/blockjob.v1.DomainService/ListDomains';
const HEALTH = '/grpc.health.v1.Health/Watch';
const NOTHING = message(Buffer.alloc(0));
const { endHeaders, endStream } = FLAG;
/** More than the calls that a service of 512 MiB once died of. */
const CALLS = 36_350;
/** More than the limit of a connection. */
const AT_A_TIME = 400;
/** A host that the well-behaved client does not use. */
const ELSEWHERE = '127.0.0.9';

interface Target {
  readonly port: number;
  readonly until: number;
  readonly tls: readonly string[];
}

type Told = Readonly<Record<string, number>>;

const isOver = ({ until }: Target) => performance.now() >= until;

async function rest({ until }: Target): Promise<void> {
  await new Promise((resolve) => {
    setTimeout(resolve, Math.max(0, until - performance.now()));
  });
}

/** Opens this number of connections, as far as the server lets them in. */
async function connections(target: Target, count: number, values: Record<number, number> = {}): Promise<Frames[]> {
  const open = async () => await Frames.open(target.port, { from: ELSEWHERE, with: values });
  return await Promise.all(Array.from({ length: count }, open));
}

/** A call that is begun and never continued. */
const begun = (stream: number, path = LIST, more: readonly (readonly [string, string])[] = []) =>
  frame(TYPE.headers, endHeaders, stream, callHeaders(path, more));
const call = (stream: number, path = LIST) => [begun(stream, path), frame(TYPE.data, endStream, stream, NOTHING)];

/** All connections do the same in turns, until the time is over or no connection is left. */
async function byTurns(target: Target, open: readonly Frames[], send: (one: Frames) => readonly Buffer[]) {
  let turns = 0;
  while (!isOver(target) && open.some(({ isOpen }) => isOpen)) {
    await Promise.all(open.map(async (one) => await one.send(...send(one))));
    turns += 1;
    // The end of a connection is noticed here.
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
  return { turns, open: open.filter(({ isOpen }) => isOpen).length };
}

/** Sends everything at once, and then only stays connected. */
async function andStay(target: Target, open: readonly Frames[], send: (one: Frames) => readonly Buffer[]) {
  for (const one of open) await one.send(...send(one));
  await rest(target);
  return { open: open.filter(({ isOpen }) => isOpen).length };
}

const many = (count: number, one: () => readonly Buffer[]) => Array.from({ length: count }, one).flat();

async function handshakes(target: Target, opens: (socket: ReturnType<typeof connectTls>) => Promise<unknown>) {
  const [certificate = '', key = '', ca = ''] = target.tls;
  const pems = { cert: readFileSync(certificate), key: readFileSync(key), ca: readFileSync(ca) };
  let [done, refused] = [0, 0];
  const one = async () => {
    while (!isOver(target)) {
      const tcp = connectTcp({ port: target.port, host: '127.0.0.1', localAddress: ELSEWHERE });
      const socket = connectTls({ socket: tcp, servername: 'localhost', ALPNProtocols: ['h2'], ...pems });
      try {
        await opens(socket);
        done += 1;
      } catch {
        refused += 1;
      } finally {
        socket.destroy();
      }
    }
  };
  await Promise.all(Array.from({ length: 50 }, one));
  return { done, refused };
}

const FLOODS: Readonly<Record<string, (target: Target) => Promise<Told>>> = {
  'calls at once': async (target) => {
    const open = await connections(target, 1);
    return await andStay(target, open, (one) => many(CALLS, () => call(one.next())));
  },
  /** All of them are valid. */
  calls: async (target) => {
    const client = new DomainServiceClient(`127.0.0.1:${target.port}`, credentials.createInsecure());
    const codes: Record<string, number> = {};
    const one = async () =>
      await new Promise<void>((resolve) => {
        const answered = (error: ServiceError | null, _response: ListDomainsResponse) => {
          const code = error === null ? 'OK' : `code${error.code}`;
          codes[code] = (codes[code] ?? 0) + 1;
          resolve();
        };
        client.listDomains({ host: '', pageSize: 1, pageToken: '' }, answered);
      });
    let left = CALLS;
    const some = async () => {
      while (left > 0 && !isOver(target)) {
        left -= 1;
        await one();
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, some));
    client.close();
    return codes;
  },
  'half-open calls': async (target) =>
    await andStay(target, await connections(target, 64), (one) => many(200, () => [begun(one.next())])),
  'half messages': async (target) => {
    const most = Buffer.concat([Buffer.from([0]), uint32(60_000), Buffer.alloc(16_000)]);
    return await andStay(target, await connections(target, 64), (one) =>
      many(100, () => {
        const stream = one.next();
        return [begun(stream), frame(TYPE.data, 0, stream, most)];
      }),
    );
  },
  headers: async (target) => {
    const large = Array.from({ length: 15 }, (_, index) => [`x-${index}`, 'x'.repeat(1000)] as const);
    const open = await connections(target, 64);
    return await andStay(target, open, (one) => many(99, () => [begun(one.next(), LIST, large)]));
  },
  'headers beyond the limit': async (target) => {
    const large = Array.from({ length: 120 }, (_, index) => [`x-${index}`, 'x'.repeat(130)] as const);
    return await byTurns(target, await connections(target, 4), (one) => [begun(one.next(), LIST, large)]);
  },
  'windows at zero': async (target) =>
    await andStay(target, await connections(target, 64, { [SETTING.initialWindow]: 0 }), (one) =>
      many(99, () => call(one.next())),
    ),
  'slow readers': async (target) =>
    await andStay(target, await connections(target, 64, { [SETTING.initialWindow]: 100 }), (one) =>
      many(99, () => call(one.next())),
    ),
  'health watches': async (target) =>
    await andStay(target, await connections(target, 64), (one) => many(99, () => call(one.next(), HEALTH))),
  pings: async (target) => {
    const some = Buffer.concat(Array.from({ length: 500 }, () => frame(TYPE.ping, 0, 0, Buffer.alloc(8))));
    return await byTurns(target, await connections(target, 4), () => [some]);
  },
  settings: async (target) => {
    const some = Buffer.concat(Array.from({ length: 500 }, () => settings({ [SETTING.initialWindow]: 70_000 })));
    return await byTurns(target, await connections(target, 4), () => [some]);
  },
  'rapid reset': async (target) =>
    await byTurns(target, await connections(target, 4), (one) =>
      many(50, () => {
        const stream = one.next();
        return [...call(stream), frame(TYPE.reset, 0, stream, uint32(8))];
      }),
    ),
  continuation: async (target) => {
    const open = await connections(target, 4);
    for (const one of open) await one.send(frame(TYPE.headers, 0, one.next(), callHeaders(LIST)));
    const more = callHeaders(LIST).subarray(0, 0);
    return await byTurns(target, open, () => many(100, () => [frame(TYPE.continuation, 0, 1, more)]));
  },
  'gzip bombs': async (target) => {
    const bomb = gzipSync(Buffer.alloc(40 << 20));
    const sent = message(bomb, true);
    const pieces = Array.from({ length: Math.ceil(sent.length / 16_000) }, (_, at) =>
      sent.subarray(at * 16_000, (at + 1) * 16_000),
    );
    return await byTurns(target, await connections(target, 4), (one) => {
      const stream = one.next();
      const data = pieces.map((piece, at) => frame(TYPE.data, at === pieces.length - 1 ? endStream : 0, stream, piece));
      return [begun(stream, LIST, [['grpc-encoding', 'gzip']]), ...data];
    });
  },
  connections: async (target) => {
    const open: ReturnType<typeof connectTcp>[] = [];
    for (let count = 0; count < 2000; count += 1) {
      const socket = connectTcp({ port: target.port, host: '127.0.0.1', localAddress: ELSEWHERE });
      socket.on('error', () => undefined).resume();
      open.push(socket);
    }
    await rest(target);
    const left = open.filter(({ readyState }) => readyState === 'open').length;
    for (const socket of open) socket.destroy();
    return { open: left };
  },
  handshakes: async (target) =>
    await handshakes(target, async (socket) => {
      await once(socket, 'secureConnect');
    }),
  /** They send the first bytes, and nothing more. */
  'half handshakes': async (target) => {
    const hello = await helloOf(target);
    const open = Array.from({ length: 2000 }, () => {
      const socket = connectTcp({ port: target.port, host: '127.0.0.1', localAddress: ELSEWHERE });
      socket.on('error', () => undefined).resume();
      socket.write(hello);
      return socket;
    });
    await rest(target);
    const left = open.filter(({ readyState }) => readyState === 'open').length;
    for (const socket of open) socket.destroy();
    return { open: left };
  },
};

/** The first message of a TLS client. */
async function helloOf(target: Target): Promise<Buffer> {
  const listener = createServer();
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const client = connectTls({ port, host: '127.0.0.1', ALPNProtocols: ['h2'] });
  client.on('error', () => undefined);
  const [socket] = (await once(listener, 'connection')) as [Socket];
  const [hello] = (await once(socket, 'data')) as [Buffer];
  client.destroy();
  socket.destroy();
  listener.close();
  return isOver(target) ? Buffer.alloc(0) : hello;
}

const [name = '', port = '', seconds = '', ...tls] = process.argv.slice(2);
const flood = FLOODS[name];
if (flood === undefined) throw new Error(`no flood is called ${name}, but ${Object.keys(FLOODS).join(', ')}`);
process.stdout.write('begun\n');
const told = await flood({ port: Number(port), until: performance.now() + Number(seconds) * 1000, tls });
process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit());
