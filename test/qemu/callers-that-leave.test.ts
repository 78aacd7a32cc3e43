// The expected result differs between the rows of the tables.
/* oxlint-disable vitest/no-conditional-expect, vitest/expect-expect, unicorn/consistent-function-scoping */
/** Clients, the service and QEMUs come and go: jobs continue, and a client that comes back misses nothing. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type CallOptions,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  AbortRequest,
  BlockJobServiceClient,
  GetInfoRequest,
  StartCopyRequest,
  WatchJobRequest,
  type WatchJobResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import {
  DestinationContent,
  type Job,
  Job_State,
  type JobEvent,
  JobEvent_Kind,
  PauseGuest,
} from '../../generated/blockjob/v1/job.ts';
import { RetryInfo } from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import {
  ChainTemplate,
  eventually,
  expectClean,
  expectWell,
  graphOf,
  journalEntries,
  monitorIn,
  present,
} from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Qemu, startQemu, type TestDir, testDir, within } from '../support/real-qemu/qemu.ts';
import { stop } from '../support/real-qemu/while-stopped.ts';
import { byId, type Refusal, refusalOf, refused } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const MIB = 1 << 20;
const SLOW = 64n * 1024n;

/** A client with a connection of its own, which can be cut. */
function aClient(service: Service): BlockJobServiceClient & Disposable {
  const client = new BlockJobServiceClient(service.address, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}

const LEAVINGS = ['cancel', 'deadline', 'disconnect'] as const;
type Leaving = (typeof LEAVINGS)[number];

/** The answers to a caller that does not wait for the end. */
const HEARS: Record<Leaving, readonly number[]> = {
  cancel: [status.CANCELLED],
  deadline: [status.DEADLINE_EXCEEDED],
  disconnect: [status.CANCELLED, status.UNAVAILABLE],
};

interface Left {
  readonly client: BlockJobServiceClient;
  readonly metadata: Metadata;
  readonly options: Partial<CallOptions>;
  readonly done: (error: ServiceError | null) => void;
}

/** Begins a call that cannot be answered now, and leaves it when the service has it; returns the status code. */
async function leave(how: Leaving, begin: (left: Left) => ClientUnaryCall): Promise<number> {
  using client = aClient(service);
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + 60_000, (error) => (error === undefined ? resolve() : reject(error)));
  });
  const heard = Promise.withResolvers<number>();
  const call = begin({
    client,
    metadata: new Metadata(),
    options: how === 'deadline' ? { deadline: Date.now() + 3000 } : {},
    done: (error) => heard.resolve(error?.code ?? status.OK),
  });
  // Messages on one connection arrive in order: this answer proves that the call has arrived.
  await new Promise<void>((resolve) => {
    client.listJobs(
      { domain: 'nobody', labelFilter: {}, createdByFilter: '', stateFilter: [], pageSize: 0, pageToken: '' },
      () => resolve(),
    );
  });
  if (how === 'cancel') call.cancel();
  if (how === 'disconnect') {
    // The channel alone would wait for its calls.
    client.close();
    call.cancel();
  }
  return await heard.promise;
}

async function allOf(watch: AsyncIterable<JobEvent>): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for await (const event of watch) events.push(event);
  return events;
}

/** Every revision after `from`, once and in order, up to `to`. */
function expectNoGap(events: readonly JobEvent[], from: bigint, to: bigint): void {
  const entries = events.filter(({ kind }) => ENTRIES.has(kind)).map(({ revision }) => revision);
  expect(entries).toEqual(Array.from({ length: Number(to - from) }, (_, index) => from + BigInt(index) + 1n));
  const order = events.map(({ revision }) => revision);
  expect(order).toEqual(order.toSorted((a, b) => Number(a - b)));
}

const ENTRIES: ReadonlySet<JobEvent_Kind> = new Set([
  JobEvent_Kind.KIND_STATE,
  JobEvent_Kind.KIND_STEP,
  JobEvent_Kind.KIND_SPEED,
  JobEvent_Kind.KIND_PAUSED,
  JobEvent_Kind.KIND_RESUMED,
]);

const held = new AsyncDisposableStack();
let template: ChainTemplate;
let service: Service;
let state: TestDir;
let sockets: string;
let count = 0;

interface Vm extends AsyncDisposable {
  readonly qemu: Qemu;
  readonly name: string;
  readonly source: string;
  readonly path: string;
}

/** A VM with a disk, known to `to`. */
async function aVm(to: Service = service, folder = sockets): Promise<Vm> {
  count += 1;
  const name = `vm${count}`;
  await using stack = new AsyncDisposableStack();
  const { path } = stack.use(await testDir('bj-work-'));
  const chain = await template.copyTo(path);
  const disks = [{ id: 'disk0', bus: 'virtio-blk', chain }] as const;
  const qemu = stack.use(await startQemu({ style: 'blockdev', name, disks, extraArgs: monitorIn(folder, name) }));
  await to.domainUp(name);
  const all = stack.move();
  return {
    qemu,
    name,
    source: present(chain.at(-1)).path,
    path: join(path, 'copy'),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

const copyOf = ({ name, path }: Vm): Parameters<typeof StartCopyRequest.fromPartial>[0] => ({
  disk: { domain: name, disk: 'disk0' },
  destination: { target: { $case: 'file', value: path } },
  bandwidthBytesPerSecond: SLOW,
});

const letGo = async ({ qemu }: Vm, id: string): Promise<void> => {
  await qemu.admin.execute('block-job-set-speed', { device: id, speed: 0 });
};

/** QEMU answers nothing while it lasts. */
async function hanging({ qemu }: Vm): Promise<Disposable> {
  await stop(qemu.pid);
  return { [Symbol.dispose]: () => void process.kill(qemu.pid, 'SIGCONT') };
}

function detailsOf(error: unknown): Status['details'] {
  if (!(error instanceof Error && 'metadata' in error && error.metadata instanceof Metadata)) return [];
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  return Buffer.isBuffer(bytes) ? Status.decode(bytes).details : [];
}

const absent = async (domain: string): Promise<void> => {
  await eventually(`${domain} is gone`, async () =>
    (await service.listDomains()).every(({ name, uuid }) => name !== domain && uuid !== domain) ? true : undefined,
  );
  expect((await refused(service.getDomain(domain))).reason).toBe('DOMAIN_NOT_FOUND');
};

describe.skipIf(needs('qemu'))('callers that leave', () => {
  beforeAll(async () => {
    const images = held.use(await testDir('bj-images-')).path;
    template = await ChainTemplate.make(images, 'disk', ['qcow2', 'qcow2'], 8 * MIB);
    state = held.use(await testDir());
    sockets = held.use(await testDir('bj-qmp-')).path;
    service = held.use(await Service.start({ dir: state.path, qmpDir: sockets, allow: ['/tmp'] }));
  });
  afterAll(async () => {
    await held.disposeAsync();
  });

  describe.each(LEAVINGS)('%s', (how) => {
    test('during StartCopy: the copy starts all the same', async () => {
      await using vm = await aVm();
      {
        using _ = await hanging(vm);
        expect(HEARS[how]).toContain(
          await leave(how, ({ client, metadata, options, done }) =>
            client.startCopy(StartCopyRequest.fromPartial(copyOf(vm)), metadata, options, done),
          ),
        );
        expect((await service.listJobs({ domain: vm.name })).jobs).toEqual([]);
      }
      const { id } = await eventually('the job runs', async () => {
        const { jobs } = await service.listJobs({ domain: vm.name });
        return jobs.find((job) => job.state === Job_State.STATE_RUNNING);
      });
      expect(existsSync(vm.path)).toBe(true);
      await service.abort({ job: byId(id) });
      expectClean(await graphOf(vm.qemu.admin), id);
      expectWell(service);
    });

    test('during GetInfo and WatchJob: the job goes on', async () => {
      await using vm = await aVm();
      const { id } = await service.startCopy(copyOf(vm));
      {
        using _ = await hanging(vm);
        // An answer in spite of QEMU is also right.
        expect([...HEARS[how], status.OK]).toContain(
          await leave(how, ({ client, metadata, options, done }) =>
            client.getInfo(GetInfoRequest.fromPartial({ job: byId(id) }), metadata, options, done),
          ),
        );
      }
      using client = aClient(service);
      const options = how === 'deadline' ? { deadline: Date.now() + 5000 } : {};
      const watch = client.watchJob(WatchJobRequest.fromPartial({ job: byId(id), afterRevision: 0n }), options);
      const ended = new Promise<number>((resolve) => {
        watch.on('error', (error) => resolve(Number(Reflect.get(error, 'code'))));
      });
      await once(watch, 'data');
      if (how !== 'deadline') watch.cancel();
      if (how === 'disconnect') client.close();
      expect(HEARS[how]).toContain(await ended);
      const job = await service.getInfo(id);
      expect(job.state).toBe(Job_State.STATE_RUNNING);
      expect((await graphOf(vm.qemu.admin)).jobs).toEqual([`${id} mirror running`]);
      await letGo(vm, id);
      await service.until(id, 'STATE_READY');
      await service.abort({ job: byId(id) });
      expectWell(service);
    });

    test.each([false, true])('during an Abort that waits, pivot %s: it ends as asked', async (pivot) => {
      await using vm = await aVm();
      const { id } = await service.startCopy(copyOf(vm));
      await letGo(vm, id);
      await service.until(id, 'STATE_READY');
      {
        using _ = await hanging(vm);
        expect(HEARS[how]).toContain(
          await leave(how, ({ client, metadata, options, done }) =>
            client.abort(AbortRequest.fromPartial({ job: byId(id), pivot }), metadata, options, done),
          ),
        );
      }
      const { job } = await service.until(id, pivot ? 'STATE_COMPLETED' : 'STATE_CANCELLED');
      expect(job?.outcome).toMatchObject({
        guestWritesTo: pivot ? vm.path : vm.source,
        destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE,
      });
      expectClean(await graphOf(vm.qemu.admin), id, pivot ? [id, `${id}-file`] : []);
      expectWell(service);
    });
  });

  test('a hanging QEMU does not hide its jobs: GetInfo and ListJobs answer', async () => {
    await using vm = await aVm();
    const { id } = await service.startCopy(copyOf(vm));
    using _ = await hanging(vm);
    await within(20_000, 'the answers', Promise.all([service.getInfo(id), service.listJobs()]));
    expectWell(service);
  });

  test('async Abort answers at once, and the job ends as requested', async () => {
    await using vm = await aVm();
    const { id } = await service.startCopy(copyOf(vm));
    await service.setSpeed(id, 0n);
    await service.until(id, 'STATE_READY');
    let job: Job;
    {
      using _ = await hanging(vm);
      job = await service.abort({ job: byId(id), pivot: true, returnImmediately: true });
      expect(job.state).toBe(Job_State.STATE_PIVOTING);
      expect(job.outcome?.guestWritesTo).toBe('');
      // The same request again gets the same answer; the opposite one is refused.
      expect(await service.abort({ job: byId(id), pivot: true, returnImmediately: true })).toEqual(job);
    }
    await service.until(id, 'STATE_COMPLETED');
    expectWell(service);
  });

  test('50 watchers, of which every second one leaves: the others miss nothing', async () => {
    await using vm = await aVm();
    const { id } = await service.startCopy(copyOf(vm));
    const middle = Number((await service.getInfo(id)).revision);
    await using clients = new AsyncDisposableStack();
    const watchers = Array.from({ length: 50 }, (_, index) => {
      const from = index % (middle + 1);
      const client = clients.use(aClient(service));
      const request = WatchJobRequest.fromPartial({
        job: byId(id),
        afterRevision: BigInt(from),
        progressInterval: { seconds: 0n, nanos: 100_000_000 },
      });
      const stream = client.watchJob(request);
      const events: JobEvent[] = [];
      stream.on('data', ({ event }: WatchJobResponse) => events.push(present(event)));
      const failed = new Promise<number>((resolve) => {
        stream.on('error', (error) => resolve(refusalOf(error).code));
      });
      const ended = Promise.race([once(stream, 'end').then(() => status.OK), failed]);
      return { from: BigInt(from), client, stream, events, ended };
    });
    await eventually('all have had something', () =>
      watchers.every(({ events, from }) => events.length > 0 || from === BigInt(middle)) ? true : undefined,
    );
    const leaving = watchers.filter((_, index) => index % 2 === 0);
    for (const { client, stream } of leaving) {
      stream.cancel();
      client.close();
    }
    await service.setSpeed(id, 0n);
    await service.until(id, 'STATE_READY');
    const job = await service.abort({ job: byId(id), pivot: true });
    const staying = watchers.filter((watcher) => !leaving.includes(watcher));
    for (const { ended, events, from } of staying) {
      expect(await ended).toBe(status.OK);
      expectNoGap(events, from, job.revision);
      expect(events.at(-1)?.job).toEqual(job);
    }
    for (const { ended } of leaving) expect(await ended).toBe(status.CANCELLED);
    expect((await journalEntries(join(state.path, 'state'), id, job.revision)).length).toBe(Number(job.revision));
    expectWell(service);
  });

  test('an ended job is watched from any revision, and not beyond its last one', async () => {
    await using vm = await aVm();
    const { id } = await service.startCopy(copyOf(vm));
    const job = await service.abort({ job: byId(id) });
    for (let from = 0n; from <= job.revision; from += 1n) {
      const events = await allOf(service.watch(id, Number(from)));
      expectNoGap(events, from, job.revision);
      for (const event of events) {
        expect(event.job?.revision).toBe(event.revision);
        expect(event.detail).not.toBe('');
        expect(event.oldestRevision).toBe(0n);
      }
    }
    const [snapshot, ...more] = await allOf(service.watch(id));
    expect(snapshot).toMatchObject({ kind: JobEvent_Kind.KIND_SNAPSHOT, revision: job.revision, job });
    expect(more).toEqual([]);
    for (const beyond of [Number(job.revision) + 1, 1_000_000]) {
      const refusal = await refused(allOf(service.watch(id, beyond)));
      expect(refusal).toMatchObject({
        code: status.OUT_OF_RANGE,
        reason: 'REVISION_UNKNOWN',
        domain: 'blockjob.v1.ErrorReason',
        metadata: { job: id, revision: String(beyond), last: String(job.revision) },
      });
    }
  });

  describe('the service itself leaves', () => {
    /** Watches until the stream breaks. */
    async function watched(of: Service, id: string, from?: number) {
      const events: JobEvent[] = [];
      try {
        for await (const event of of.watch(id, from)) events.push(event);
      } catch (error) {
        return { events, refusal: refusalOf(error), details: detailsOf(error) };
      }
      return { events, refusal: undefined, details: [] };
    }

    test.each(['STATE_RUNNING', 'STATE_READY'] as const)(
      'SIGTERM while %s: watchers get an answer, the job continues, the next service takes it up',
      async (at) => {
        await using own = await testDir();
        const folder = join(own.path, 'qmp');
        await mkdir(folder);
        const options = { dir: own.path, qmpDir: folder, allow: ['/tmp'] };
        await using first = await Service.start(options);
        await using vm = await aVm(first, folder);
        const { id } = await first.startCopy(copyOf(vm));
        if (at === 'STATE_READY') {
          // By the service, which writes it down before READY.
          await first.setSpeed(id, 0n);
          await first.until(id, 'STATE_READY');
        }
        const before = await first.getInfo(id);
        const watching = watched(first, id, 0);
        // The watch is open when its first events come; the question uses the same connection.
        await first.until(id, at);
        const pending = at === 'STATE_RUNNING' ? watched(first, id) : undefined;
        await first.getInfo(id);
        expect(await first.stop()).toBe(0);
        for (const { events, refusal, details } of [await watching, ...(pending ? [await pending] : [])]) {
          expect(events.length).toBeGreaterThan(0);
          expect(refusal as Refusal).toMatchObject({ code: status.UNAVAILABLE, reason: 'DRAINING' });
          const retry = present(details.find(({ typeUrl }) => typeUrl.endsWith('google.rpc.RetryInfo')));
          expect(present(RetryInfo.decode(retry.value).retryDelay).seconds).toBeGreaterThan(0n);
        }
        expect((await graphOf(vm.qemu.admin)).jobs).toEqual([
          `${id} mirror ${at === 'STATE_READY' ? 'ready' : 'running'}`,
        ]);
        expect(first.log).toContain('All calls have ended');

        await using second = await Service.start(options);
        await second.domainUp(vm.name);
        const after = await second.getInfo(id);
        // The progress continues, and so does the time at which the place of the guest is known.
        const still = (job: Job) => ({
          ...job,
          progress: undefined,
          outcome: { ...job.outcome, guestAsOf: undefined },
        });
        expect(still(after)).toEqual(still(before));
        expect((await second.getDomain(vm.name)).disks[0]?.job?.id).toBe(id);
        const seen = (await watching).events.at(-1)?.revision ?? 0n;
        const resumed = watched(second, id, Number(seen));
        if (at === 'STATE_RUNNING') {
          await letGo(vm, id);
          await second.until(id, 'STATE_READY');
        }
        const job = await second.abort({ job: byId(id), pivot: true });
        expect(job).toMatchObject({
          state: Job_State.STATE_COMPLETED,
          outcome: { guestWritesTo: vm.path },
        });
        const { events, refusal } = await resumed;
        expect(refusal).toBeUndefined();
        expectNoGap([...(await watching).events, ...events], 0n, job.revision);
        expectClean(await graphOf(vm.qemu.admin), id, [id, `${id}-file`]);
        await journalEntries(join(own.path, 'state'), id, job.revision);
        for (const one of [first, second]) expect(one.log).not.toMatch(/"level":[56]0\b/);
      },
    );

    test('a job that ended while no service ran is reported by the state that QEMU kept', async () => {
      await using own = await testDir();
      const folder = join(own.path, 'qmp');
      await mkdir(folder);
      const options = { dir: own.path, qmpDir: folder, allow: ['/tmp'] };
      await using first = await Service.start(options);
      await using vm = await aVm(first, folder);
      const { id } = await first.startCopy(copyOf(vm));
      await letGo(vm, id);
      await first.until(id, 'STATE_READY');
      expect(await first.stop()).toBe(0);
      await vm.qemu.admin.execute('job-complete', { id });
      await eventually('QEMU concludes the job', async () =>
        (await graphOf(vm.qemu.admin)).jobs.includes(`${id} mirror concluded`) ? true : undefined,
      );
      await using second = await Service.start(options);
      const { job } = await second.until(id, 'STATE_COMPLETED');
      expect(job?.outcome).toMatchObject({
        guestWritesTo: vm.path,
        destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE,
      });
      expectClean(await graphOf(vm.qemu.admin), id, [id, `${id}-file`]);
      expectWell(second);
    });
  });

  describe('QEMUs come and go', () => {
    test('they appear by name and UUID, and disappear', async () => {
      for (const round of [1, 2, 3]) {
        const vm = await aVm();
        await using _ = vm;
        expect((await service.getDomain(vm.name)).uuid).toBe(vm.qemu.uuid);
        expect((await service.getDomain(vm.qemu.uuid)).name).toBe(vm.name);
        if (round === 2) process.kill(vm.qemu.pid, 'SIGKILL');
        await vm.qemu[Symbol.asyncDispose]();
        // A killed QEMU leaves its socket's file behind, until it is removed.
        await rm(join(sockets, `${vm.name}.sock`), { force: true });
        await absent(vm.name);
        await absent(vm.qemu.uuid);
      }
      expectWell(service);
    });

    test.each([
      ['RUNNING', 'STATE_FAILED'],
      ['READY', 'STATE_FAILED'],
      ['PIVOTING', 'STATE_UNRESOLVED'],
    ] as const)('%s, and another QEMU takes the name and the socket: %s', async (at, ends) => {
      await using vm = await aVm();
      const { id } = await service.startCopy(copyOf(vm));
      if (at !== 'RUNNING') {
        await letGo(vm, id);
        await service.until(id, 'STATE_READY');
      }
      if (at === 'PIVOTING') {
        await stop(vm.qemu.pid);
        const pivot = { job: byId(id), pivot: true, returnImmediately: true, pauseGuest: PauseGuest.PAUSE_GUEST_NEVER };
        expect((await service.abort(pivot)).state).toBe(Job_State.STATE_PIVOTING);
      }
      process.kill(vm.qemu.pid, 'SIGKILL');
      await vm.qemu.exited;
      const disks = [{ id: 'disk0', bus: 'virtio-blk', chain: [{ format: 'qcow2', path: vm.source }] }] as const;
      await using next = await startQemu({
        style: 'drive',
        name: vm.name,
        uuid: vm.qemu.uuid,
        disks,
        extraArgs: monitorIn(sockets, vm.name),
      });
      await service.domainUp(vm.name);
      const { job } = await service.until(id, ends);
      expect((await service.getDomain(vm.name)).qemuPid).toBe(next.pid);
      // The outcome claims nothing that nobody saw, and gives no file away.
      expect(job?.outcome).toMatchObject({
        guestWritesTo: '',
        nextStartPath: '',
        safeToDelete: [],
        destinationRemoved: false,
      });
      expect(job?.outcome?.destinationContent).not.toBe(DestinationContent.DESTINATION_CONTENT_COMPLETE);
      expect(job?.error?.message).toMatch(/QEMU process has ended/);
      expect(job?.outcome?.evidence.length).toBeGreaterThan(0);
      expect(existsSync(vm.path)).toBe(true);
      // The new one is left alone, and its disk is free for the next job.
      expect((await service.getDomain(vm.name)).disks[0]?.job).toBeUndefined();
      expectClean(await graphOf(next.admin), id);
      await rm(vm.path);
      const again = await service.startCopy(copyOf(vm));
      expect((await service.abort({ job: byId(again.id) })).state).toBe(Job_State.STATE_CANCELLED);
      expectWell(service);
    });
  });
});
