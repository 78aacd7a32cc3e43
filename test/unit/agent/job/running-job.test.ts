import { readFile } from 'node:fs/promises';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { GuestHold } from '../../../../src/agent/job/guest-hold.ts';
import { RunningJob } from '../../../../src/agent/job/running-job.ts';
import { JobLog } from '../../../../src/agent/journal/job-log.ts';
import type { HoldRecord } from '../../../../src/agent/journal/written-hold.ts';
import { HeardEnds } from '../../../../src/agent/qemu/heard-ends.ts';
import type { VirtualMachine } from '../../../../src/agent/qemu/virtual-machine.ts';
import { BlockJobError, failure } from '../../../../src/core/errors.ts';
import { FREE } from '../../../../src/core/job/guest-hold.ts';
import type { JobState } from '../../../../src/core/job/job.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import type { QemuProcess } from '../../../../src/core/job/qemu-identity.ts';
import type { GuestCommand, QmpCommand } from '../../../../src/core/qemu/commands.ts';
import type { QemuJob, QemuJobStatus } from '../../../../src/core/qemu/replies.ts';
import { Wake } from '../../../../src/lib/wake.ts';
import { Refused } from '../../../../src/qmp/errors.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { journalsIn } from '../../../support/service/journals.ts';
import { ACCEPTED, CANCEL, DESTINATION, FORCE, JOB, pivot, READY, RUNNING, SOURCE } from '../../core/stories.ts';

/** A QEMU as a job sees it: it answers commands as a test says. */
class Machine {
  readonly wake = new Wake();
  readonly silence = { ms: 0 };
  readonly heardEnds = new HeardEnds();
  readonly standstill = { begin: async () => undefined, end: async () => undefined };
  identity: Readonly<Record<string, unknown>> = { generation: 1 };
  readonly commands: string[] = [];
  status: QemuJobStatus | undefined = 'ready';
  error: string | undefined;
  runs = true;
  isElsewhere = false;
  node = 'top';
  readonly #answer: (machine: Machine, command: QmpCommand | GuestCommand) => void;
  #hear: (event: { readonly event: string }) => void = () => undefined;

  constructor(answer: (machine: Machine, command: QmpCommand | GuestCommand) => void) {
    this.#answer = answer;
  }

  /** The jobs that a look finds here. */
  isIt = true;

  has(): boolean {
    return this.isIt;
  }

  isUnderWay(): boolean {
    return this.isIt && this.status !== 'concluded';
  }

  expect(): void {
    this.isIt = true;
  }

  async jobs(): Promise<QemuJob[]> {
    const { status, error } = this;
    if (status === undefined) return [];
    return [{ id: JOB, type: 'mirror', status, error, currentBytes: 1, endBytes: 1 }];
  }

  async blockJobs(): Promise<[]> {
    return [];
  }

  async runState(): Promise<string> {
    return this.isElsewhere ? 'postmigrate' : this.runs ? 'running' : 'paused';
  }

  async steer({ execute }: GuestCommand, atTurn: () => boolean): Promise<void> {
    atTurn();
    this.commands.push(execute);
    if (this.runs !== (execute === 'cont')) this.#hear({ event: execute === 'stop' ? 'STOP' : 'RESUME' });
    this.runs = execute === 'cont';
    this.#answer(this, { execute });
    this.wake.notify();
  }

  onEvent(listener: (event: { readonly event: string }) => void): void {
    this.#hear = listener;
  }

  async graph(): Promise<unknown> {
    const path = this.node === 'top' ? SOURCE : DESTINATION;
    return { nodes: new Map(), disks: [{ qdev: ACCEPTED.qdev, chain: [{ node: this.node, path }] }] };
  }

  async execute(command: QmpCommand): Promise<unknown> {
    if (command.execute === 'query-status') return { status: await this.runState() };
    if (command.execute === 'query-migrate') return {};
    this.commands.push(command.execute);
    if (command.execute === 'job-dismiss') this.status = undefined;
    this.#answer(this, command);
    this.wake.notify();
    return {};
  }

  conclude(error: string | undefined, node = 'top'): void {
    Object.assign(this, { status: 'concluded', error, node });
  }
}

/** Drives a job that is READY, with these entries behind it, to its end. */
async function driven(
  machine: Machine,
  entries: readonly EntryBody[],
  {
    process,
    mayPivot = async () => undefined,
    expectHolder = () => undefined,
  }: { process?: QemuProcess; mayPivot?: () => Promise<void>; expectHolder?: () => void } = {},
): Promise<AsyncDisposable & { log: JobLog; driving: Promise<void> }> {
  await using resources = new AsyncDisposableStack();
  const dir = resources.use(await testDir());
  const log = await JobLog.begin(journalsIn(dir.path), { ...ACCEPTED, process });
  resources.defer(async () => await log.close());
  for (const entry of [RUNNING, READY, ...entries]) await log.append(entry);
  const logger = pino({ level: 'silent' });
  const record: HoldRecord = { hold: FREE, isSame: true, save: async () => undefined };
  const hold = new GuestHold({ machine, record: () => record, logger });
  resources.defer(async () => await hold.close());
  const running = new RunningJob({
    log,
    holdOf: () => hold,
    machine: () => machine as unknown as VirtualMachine,
    arrivals: new Wake(),
    copiesBeside: () => [],
    holder: async () => async () => await Promise.resolve(undefined),
    expectHolder,
    mayPivot,
    onBlockJobs: () => undefined,
    onWaits: () => undefined,
    logger,
  });
  const driving = running.drive();
  resources.defer(async () => {
    running.close();
    await driving;
  });
  const kept = resources.move();
  return { log, driving, [Symbol.asyncDispose]: async () => await kept.disposeAsync() };
}

/** The entries since it came to this state, one word for each. */
function entriesOf(log: JobLog | undefined, since: JobState): readonly string[] {
  const all = log?.revisions ?? [];
  return all.slice(all.findIndex(({ job }) => job.state === since) + 1).map(({ entry, job }) => {
    if (!('step' in entry)) return entry.entry;
    const state = job.steps.get(entry.step);
    return state === 'STARTED' ? entry.step : `${entry.step} ${state}`;
  });
}

const CLOSE_DESTINATION = ['blockdev-del', 'blockdev-del'];

describe('a job that runs', () => {
  it('is ended by force when the requested soft end does not come', async () => {
    const softly = Promise.withResolvers<void>();
    const machine = new Machine((self, { execute }) => {
      if (execute === 'block-job-cancel') softly.resolve();
      if (execute === 'job-cancel') self.conclude('Operation canceled');
    });
    await using job = await driven(machine, [CANCEL]);
    await softly.promise;
    await job.log.append(FORCE);
    await job.driving;
    expect(machine.commands).toEqual(['block-job-cancel', 'job-cancel', 'job-dismiss', ...CLOSE_DESTINATION]);
    expect(job.log.known).toMatchObject({ state: 'CANCELLED', outcome: { destinationContent: 'STALE' } });
  });

  it('asks again when QEMU refused, and not when it only takes its time', async () => {
    let refusals = 2;
    const machine = new Machine((self, { execute }) => {
      if (execute !== 'job-complete') return;
      refusals -= 1;
      if (refusals >= 0) throw new Refused(execute, 'GenericError', 'Job in state standby cannot accept complete');
      self.conclude(undefined, JOB);
    });
    await using job = await driven(machine, [pivot('NEVER')]);
    await job.driving;
    expect(machine.commands.slice(0, 4)).toEqual(['job-complete', 'job-complete', 'job-complete', 'job-dismiss']);
    expect(job.log.known).toMatchObject({ state: 'COMPLETED', outcome: { guestWritesTo: DESTINATION } });
  });

  it('holds the guest for its pivot: each action is written down before it is done, and then the guest runs', async () => {
    const heldWhen: Record<string, boolean> = {};
    let log: JobLog | undefined;
    const machine = new Machine((self, { execute }) => {
      heldWhen[execute] ??= log?.job.guestHeld ?? false;
      if (execute === 'job-complete') self.conclude(undefined, JOB);
    });
    await using job = await driven(machine, []);
    log = job.log;
    await job.log.append(pivot('ALWAYS'));
    await job.driving;
    expect(machine.commands.slice(0, 5)).toEqual(['transaction', 'stop', 'job-complete', 'cont', 'job-dismiss']);
    // A command that hangs is found and cancelled while the guest runs.
    expect(heldWhen).toMatchObject({
      transaction: false,
      stop: true,
      'job-complete': true,
      cont: false,
      'job-dismiss': false,
    });
    expect(job.log.revisionOf('concluded')).toBeLessThan(job.log.revisionOf('guest-released') ?? 0);
    expect(machine.runs).toBe(true);
    expect(job.log.job).toMatchObject({ state: 'COMPLETED', guestHeld: false });
  });

  it('is not left with a guest that is paused for its pivot: the guest is resumed first', async () => {
    const asked = Promise.withResolvers<void>();
    const machine = new Machine((_self, { execute }) => {
      if (execute === 'job-complete') asked.resolve();
    });
    const job = await driven(machine, [pivot('ALWAYS')]);
    await asked.promise;
    const left = job[Symbol.asyncDispose]();
    expect(machine.runs).toBe(false);
    machine.conclude(undefined, JOB);
    machine.wake.notify();
    await left;
    expect(machine.runs).toBe(true);
    expect(job.log.job).toMatchObject({ state: 'PIVOTING', guestHeld: false });
    expect(job.log.revisionOf('concluded')).toBeDefined();
  });

  it('does not continue a guest that was paused for its pivot and has migrated since: it runs elsewhere', async () => {
    const machine = new Machine((self, { execute }) => {
      if (execute !== 'job-complete') return;
      self.conclude(undefined, JOB);
      self.isElsewhere = true;
    });
    await using job = await driven(machine, [pivot('ALWAYS')]);
    await job.driving;
    expect(machine.commands.slice(0, 4)).toEqual(['transaction', 'stop', 'job-complete', 'job-dismiss']);
    expect(machine.runs).toBe(false);
    // It may be on the old image: the outcome claims nothing, and no file may be deleted.
    expect(job.log.known).toMatchObject({
      state: 'UNRESOLVED',
      guestHeld: false,
      outcome: { guestWritesTo: undefined, destinationContent: 'UNKNOWN', safeToDelete: [] },
    });
  });

  it.each(['NEVER', 'ALWAYS'] as const)(
    'checks the owner of the guest before it moves or pauses it (pause %s)',
    async (pause) => {
      const answers = [new BlockJobError(failure('NOT_OWNER', { host: 'h1', domain: 'vm', owner: 'h2' })), undefined];
      const before: string[][] = [];
      const machine = new Machine((self, { execute }) => {
        if (execute === 'job-complete') self.conclude(undefined, JOB);
      });
      const mayPivot = async () => {
        before.push([...machine.commands]);
        const refusal = answers.shift();
        if (refusal !== undefined) throw refusal;
      };
      await using job = await driven(machine, [pivot(pause)], { mayPivot });
      await job.driving;
      expect(before.slice(0, 2)).toEqual([[], []]);
      expect(before.at(-1)).toEqual(pause === 'ALWAYS' ? ['transaction', 'stop'] : []);
      expect(job.log.job).toMatchObject({ state: 'COMPLETED', guestHeld: false });
    },
  );

  it('releases a guest that it has paused when it may not move it any more', async () => {
    let asked = 0;
    const machine = new Machine((self, { execute }) => {
      if (execute === 'job-complete') self.conclude(undefined, JOB);
    });
    const mayPivot = async () => {
      asked += 1;
      if (asked === 2) throw new BlockJobError(failure('DIRECTORY_UNREACHABLE', { why: 'a test', what: 'vm' }));
    };
    await using job = await driven(machine, [pivot('ALWAYS')], { mayPivot });
    await job.driving;
    const held = ['transaction', 'stop'];
    expect(machine.commands.slice(0, 6)).toEqual([...held, 'cont', ...held, 'job-complete']);
    expect(job.log.job).toMatchObject({ state: 'COMPLETED', guestHeld: false });
  });

  it('is not moved by a decision from before a slow check: a cancel by force comes first', async () => {
    const machine = new Machine((self, { execute }) => {
      if (execute === 'job-complete') self.conclude(undefined, JOB);
      if (execute === 'job-cancel') self.conclude('Operation canceled');
    });
    const asked = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    const mayPivot = async () => {
      asked.resolve();
      await answer.promise;
    };
    await using job = await driven(machine, [pivot('NEVER')], { mayPivot });
    await asked.promise;
    await job.log.append(FORCE);
    answer.resolve();
    await job.driving;
    expect(machine.commands).not.toContain('job-complete');
    expect(job.log.job).toMatchObject({ state: 'CANCELLED' });
  });

  it('is not looked for in another process with the same name, as while a guest migrates', async () => {
    const stat = await readFile('/proc/self/stat', 'utf8');
    const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
    const looked = Promise.withResolvers<void>();
    const machine = new Machine(() => undefined);
    machine.status = undefined;
    machine.isIt = false;
    machine.identity = {
      generation: 1,
      get facts() {
        looked.resolve();
        return { process: { pid: process.pid, startTime: `${startTime}0` } };
      },
    };
    const job = await driven(machine, [], { process: { pid: process.pid, startTime } });
    await looked.promise;
    await job[Symbol.asyncDispose]();
    expect(job.log.job).toMatchObject({ state: 'READY', concluded: undefined });
  });

  it('says before the guest moves that the users of its old image will be looked for', async () => {
    const before: string[][] = [];
    const machine = new Machine((self, { execute }) => {
      if (execute === 'job-complete') self.conclude(undefined, JOB);
    });
    const expectHolder = () => void before.push([...machine.commands]);
    await using job = await driven(machine, [pivot('NEVER')], { expectHolder });
    await job.driving;
    expect(before).toEqual([[]]);
    expect(machine.commands[0]).toBe('job-complete');
  });

  it('begins its clean-up with one write: nothing is done before all its steps are written down', async () => {
    const writtenWhen: Record<string, readonly string[]> = {};
    let log: JobLog | undefined;
    const machine = new Machine((self, { execute }) => {
      writtenWhen[execute] ??= entriesOf(log, 'PIVOTING');
      if (execute === 'job-complete') self.conclude(undefined, JOB);
      if (execute === 'blockdev-del' && self.commands.at(-2) === 'job-dismiss') {
        throw new Refused(execute, 'GenericError', 'Node is in use');
      }
    });
    await using job = await driven(machine, []);
    log = job.log;
    await job.log.append(pivot('NEVER'));
    await job.driving;
    const begun = ['concluded', 'sync-destination', 'dismiss-job', 'close-top', 'close-top-file'];
    expect(writtenWhen).toMatchObject({ 'job-complete': [], 'job-dismiss': begun });
    expect(entriesOf(log, 'PIVOTING').slice(begun.length)).toEqual([
      'sync-destination DONE',
      'dismiss-job DONE',
      'close-top REFUSED',
      'close-top-file DONE',
      'ended',
    ]);
    expect(job.log.job.steps.get('close-top')).toBe('REFUSED');
  });

  it('continues in QEMU when no driver looks after it any more', async () => {
    const machine = new Machine(() => undefined);
    const job = await driven(machine, []);
    await job[Symbol.asyncDispose]();
    expect(machine.commands).toEqual([]);
    expect(job.log.job.state).toBe('READY');
  });
});

it('a start whose VM has gone since it was prepared is refused: no step of it is recorded as done', async () => {
  await using dir = await testDir();
  const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
  const running = new RunningJob({
    log,
    holdOf: () => ({ hold: async () => undefined, release: async () => undefined }),
    machine: () => undefined,
    arrivals: new Wake(),
    copiesBeside: () => [],
    holder: async () => async () => await Promise.resolve(undefined),
    expectHolder: () => undefined,
    mayPivot: async () => undefined,
    onBlockJobs: () => undefined,
    onWaits: () => undefined,
    logger: pino({ level: 'silent' }),
  });
  await running.start();
  await running.drive();
  expect([log.refused, log.job.state, log.job.failure?.reason]).toEqual([true, 'FAILED', 'DOMAIN_NOT_FOUND']);
  expect(log.job.steps.size).toBe(0);
  await log.close();
});
