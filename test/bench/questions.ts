/**
 * Questions about a running job: GetInfo for one caller, and for many callers at once, beside a bare question to the same
 * QEMU, a gRPC server that only sends the same bytes, and libvirt. Each client and the echo are processes of their own.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { credentials, Server, ServerCredentials } from '@grpc/grpc-js';
import {
  BlockJobServiceClient,
  BlockJobServiceService,
  GetInfoResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import { present } from '../support/checks.ts';
import { useOf } from '../support/memory.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { Libvirt } from '../support/real-qemu/libvirt.ts';
import { run, testDir } from '../support/real-qemu/qemu.ts';
import { byId, call } from '../support/service/caller.ts';
import type { Figure } from './figure.ts';
import { median } from './statistics.ts';
import { rounds } from './turns.ts';

const ROUNDS = 6;
/** The questions of one caller in one round. */
const QUESTIONS = 1000;
const AT_ONCE = 64;
/** The questions of all of them together in one round. */
const BURST = 3200;
const OURS = 'this service';
const ECHO = 'a gRPC server that sends the same bytes';

/** Work for a client process. */
type Work =
  | { readonly do: 'qmp'; readonly path: string }
  | {
      readonly do: 'getInfo';
      readonly address: string;
      readonly job: string;
      readonly connections: number;
      readonly callers: number;
      readonly calls: number;
    };

/** Milliseconds of each question, for one caller; or of all of them. */
type Answer = { readonly each: readonly number[] } | { readonly all: number };

// ---- the other processes --------------------------------------------------------------------------------

async function timed(questions: number, ask: () => Promise<unknown>): Promise<readonly number[]> {
  const each: number[] = [];
  for (let at = 0; at < questions; at += 1) {
    const begun = performance.now();
    await ask();
    each.push(performance.now() - begun);
  }
  return each;
}

async function askQmp(path: string): Promise<Answer> {
  const socket = connect(path);
  const lines = createInterface(socket)[Symbol.asyncIterator]();
  await lines.next();
  const ask = async (command: string) => {
    socket.write(`{"execute":"${command}"}\n`);
    // Events may come between.
    while (!String((await lines.next()).value).startsWith('{"return"'));
  };
  await ask('qmp_capabilities');
  const each = await timed(QUESTIONS, async () => await ask('query-block-jobs'));
  socket.destroy();
  return { each };
}

const clients = new Map<string, BlockJobServiceClient>();

function clientOf(address: string, at: number): BlockJobServiceClient {
  const key = `${at} ${address}`;
  // A pool of its own is a connection of its own.
  const client =
    clients.get(key) ??
    new BlockJobServiceClient(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  clients.set(key, client);
  return client;
}

async function askGetInfo({
  address,
  job,
  connections,
  callers,
  calls,
}: Extract<Work, { do: 'getInfo' }>): Promise<Answer> {
  const all = Array.from({ length: connections }, (_, at) => clientOf(address, at));
  const ask = async (at: number) =>
    await call<GetInfoResponse>(present(all[at % connections]), 'getInfo', { job: byId(job) });
  await Promise.all(all.map(async (_, at) => await ask(at)));
  const begun = performance.now();
  const each = await Promise.all(
    Array.from({ length: callers }, async (_, at) => await timed(calls / callers, async () => await ask(at))),
  );
  return callers === 1 ? { each: present(each[0]) } : { all: performance.now() - begun };
}

async function beClient(): Promise<void> {
  process.on('message', (work: Work) => {
    void (work.do === 'qmp' ? askQmp(work.path) : askGetInfo(work)).then((answer) => process.send?.(answer));
  });
  await once(process, 'disconnect');
  process.exit();
}

/** Answers GetInfo with the bytes that it is sent. */
async function beEcho(): Promise<void> {
  const [bytes] = (await once(process, 'message')) as [string];
  const answer = Buffer.from(bytes, 'base64');
  const server = new Server();
  const getInfo = { ...BlockJobServiceService.getInfo, responseSerialize: () => answer };
  server.addService(
    { getInfo },
    { getInfo: (_call: unknown, done: (error: null, sent: unknown) => void) => done(null, {}) },
  );
  server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_error, port) =>
    process.send?.(`127.0.0.1:${port}`),
  );
  await once(process, 'disconnect');
  process.exit();
}

// ---- the measurement ------------------------------------------------------------------------------------

const GET_BLOCK_JOB_INFO = `
import libvirt, sys, time
domain = libvirt.open('qemu:///session').lookupByName(sys.argv[1])
for _ in range(int(sys.argv[2])):
    begun = time.perf_counter()
    if domain.blockJobInfo('vda') == {}: sys.exit('no job')
    print(1000 * (time.perf_counter() - begun))
`;

function start(what: 'client' | 'echo', held: DisposableStack): ChildProcess {
  const child = fork(import.meta.filename, [what]);
  held.defer(() => child.disconnect());
  return child;
}

async function asked(client: ChildProcess, work: Work): Promise<Answer> {
  client.send(work);
  const [answer] = (await once(client, 'message')) as [Answer];
  return answer;
}

/** A copy that is READY, in a libvirt of its own. */
async function libvirtJob(held: AsyncDisposableStack): Promise<() => Promise<readonly number[]>> {
  const libvirt = held.use(await Libvirt.start());
  const image = join(libvirt.dir, 'source.qcow2');
  await libvirt.own(image, async (path) => await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']));
  await libvirt.create('questioned', image);
  await libvirt.virsh(['blockcopy', 'questioned', 'vda', '--dest', join(libvirt.dir, 'copy.qcow2')]);
  const script = join(libvirt.dir, 'ask.py');
  await libvirt.own(script, async (path) => await writeFile(path, GET_BLOCK_JOB_INFO));
  return async () =>
    (await libvirt.python([script, 'questioned', String(QUESTIONS)])).stdout.trim().split('\n').map(Number);
}

export async function measure(): Promise<readonly Figure[]> {
  using children = new DisposableStack();
  await using held = new AsyncDisposableStack();
  const site = held.use(await Site.open());
  const path = join(held.use(await testDir()).path, 'bare.sock');
  const machine = held.use(
    await site.machine({ formats: ['qcow2'], extraArgs: ['-qmp', `unix:${path},server=on,wait=off`] }),
  );
  const destination = { target: { $case: 'file', value: join(machine.dir, 'copy.qcow2') } } as const;
  const { id: job } = await site.service.startCopy({ disk: machine.disk, destination });
  await site.service.until(job, 'STATE_READY');
  const { address } = site.service;
  const byLibvirt = await libvirtJob(held);

  const client = start('client', children);
  const echo = start('echo', children);
  const bytes = GetInfoResponse.encode({ job: await site.service.getInfo(job) }).finish();
  echo.send(Buffer.from(bytes).toString('base64'));
  const [echoAddress] = (await once(echo, 'message')) as [string];
  const servers = [
    { by: OURS, pid: site.service.pid, address },
    { by: ECHO, pid: present(echo.pid), address: echoAddress },
  ];

  const figures = new Map<string, Figure & { readonly values: number[] }>();
  const note = (what: string, by: string, unit: string, value: number) => {
    const key = [what, by, unit].join('\n');
    const figure = figures.get(key) ?? { what, by, unit, values: [] };
    figures.set(key, figure);
    // The first round warms up.
    if (round > 0) figure.values.push(value);
  };
  let round = 0;
  for (; round <= rounds(ROUNDS); round += 1) {
    const one = 'GetInfo, one caller';
    for (const { by, address: at, pid } of servers) {
      const before = useOf({ pid });
      const work = { do: 'getInfo', address: at, job, connections: 1, callers: 1, calls: QUESTIONS } as const;
      const answer = await asked(client, work);
      if ('each' in answer) note(one, by, 'ms', median(answer.each));
      note(`${one}: CPU time of the server`, by, 'ms a call', (useOf({ pid }).cpuMs - before.cpuMs) / QUESTIONS);
    }
    const bare = await asked(client, { do: 'qmp', path });
    if ('each' in bare) note(one, 'query-block-jobs by bare QMP', 'ms', median(bare.each));
    note(one, 'virDomainGetBlockJobInfo from Python', 'ms', median(await byLibvirt()));
    for (const connections of [1, 8]) {
      for (const { by, address: at, pid } of servers) {
        const what = `GetInfo, ${AT_ONCE} callers on ${connections === 1 ? 'one connection' : `${connections} connections`}`;
        const before = useOf({ pid });
        const work = { do: 'getInfo', address: at, job, connections, callers: AT_ONCE, calls: BURST } as const;
        const answer = await asked(client, work);
        note(what, by, 'calls a second a core', (BURST / (useOf({ pid }).cpuMs - before.cpuMs)) * 1000);
        if ('all' in answer) note(what, by, 'calls a second', (BURST / answer.all) * 1000);
      }
    }
  }
  return [...figures.values()];
}

if (import.meta.main) {
  const [role] = process.argv.slice(2);
  if (role === 'client') await beClient();
  if (role === 'echo') await beEcho();
}
