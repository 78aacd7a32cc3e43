/**
 * A service died while it slowed a guest down, or was about to, or was about to let it go: another one reads the journal
 * up to any line, finds QEMU before or after the command that follows from it, and the job ends in any way. No limit of
 * the job is left in QEMU, and no limit of another client is touched.
 */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { encodeLine } from '../../src/agent/journal/journal.ts';
import type { EntryBody } from '../../src/core/job/journal-entry.ts';
import { NO_EFFECT } from '../../src/core/qemu/limits.ts';
import { present } from '../support/checks.ts';
import { COURSES, type Course, jobsOf } from '../support/fake-qemu/courses.ts';
import type { FakeQemu } from '../support/fake-qemu/fake-qemu.ts';
import { Scene, type SceneMoment } from '../support/fake-qemu/scene.ts';
import { record } from '../support/real-qemu/recording.ts';
import { copyTo, NO_STEPS, PATIENT, type TestAgent } from '../support/service/agent.ts';
import { THROTTLE, THROTTLED, TIME_IS_UP, VERDICT } from '../unit/core/stories.ts';

vi.setConfig({ testTimeout: 120_000 });

const MIB = 2 ** 20;
const QDEV = '/machine/peripheral/vd0/virtio-backend';
const SOON = { timeout: 20_000 };
const OTHER = { id: QDEV, iops: 500, group: 'theirs' };

/** A journal of a copy that may slow its guest down, up to READY, and QEMU at that moment. */
interface Found extends AsyncDisposable {
  readonly scene: Scene;
  readonly job: string;
  readonly text: string;
  readonly revision: number;
  readonly world: SceneMoment;
}

async function ready(): Promise<Found> {
  await using made = new AsyncDisposableStack();
  const scene = made.use(await Scene.begin());
  const endPolicy = {
    ...NO_STEPS,
    patienceMs: 1000,
    guestThrottle: { floorBytesPerSecond: BigInt(MIB / 2), maxDurationMs: 600_000 },
  };
  const course: Course = {
    ...present(COURSES[0]),
    start: async ({ agent }) =>
      await agent.startCopy(copyTo(scene.path('copy'), { format: 'RAW', endPolicy }), PATIENT),
  };
  const { job, lines } = await record(course, scene);
  const at = lines.findIndex(({ entry }) => entry.entry === 'ready');
  const text = lines
    .slice(0, at + 1)
    .map((line) => line.text)
    .join('');
  const kept = made.move();
  const { world } = present(lines[at]);
  return { scene, job, text, revision: at + 1, world, [Symbol.asyncDispose]: async () => await kept.disposeAsync() };
}

let found: Found;
beforeAll(async () => {
  found = await ready();
});
afterAll(async () => await found[Symbol.asyncDispose]());

function written(entries: readonly EntryBody[]): string {
  const time = '2026-02-03T03:07:13.208Z';
  return entries.map((entry, at) => encodeLine({ ...entry, revision: found.revision + at + 1, time })).join('');
}

/** An agent with this journal, and QEMU with these limits. */
async function goOn(entries: readonly EntryBody[], limits: (qemu: FakeQemu) => void): Promise<TestAgent> {
  const { scene, job, text, world } = found;
  scene.restore(world);
  limits(scene.qemu);
  return await scene.agent({ job, text: text + written(entries) });
}

const ours = (limit: number) => (qemu: FakeQemu) => qemu.limit({ id: QDEV, bps_wr: limit, group: found.job });
const none = () => undefined;
const other = (qemu: FakeQemu) => qemu.limit(OTHER);
const otherInOurs = (qemu: FakeQemu) => {
  ours(MIB)(qemu);
  qemu.limit({ id: QDEV, iops: 500 });
};

type Ending = (agent: TestAgent) => Promise<unknown>;

async function abort({ agent }: TestAgent, more: { pivot?: boolean; force?: boolean }): Promise<void> {
  const plain = { pivot: false, returnImmediately: false, force: false, pauseGuest: undefined, requestId: '' };
  await agent.abort({ job: { jobId: found.job }, ...plain, ...more }, PATIENT);
}

const ENDINGS: Readonly<Record<string, Ending>> = {
  'a pivot': async (agent) => await abort(agent, { pivot: true }),
  'a cancel': async (agent) => await abort(agent, {}),
  'a forced cancel': async (agent) => await abort(agent, { force: true }),
  'a failure': async () => await Promise.resolve(found.scene.qemu.anyJob(found.job)?.fail('Input/output error')),
};

const SLOWED = [VERDICT, THROTTLE, THROTTLED] as const;
const STORIES: readonly (readonly [what: string, entries: readonly EntryBody[], limits: (qemu: FakeQemu) => void])[] = [
  ['it was about to be slowed down', [VERDICT, THROTTLE], none],
  ['it is slowed down, which is not recorded', [VERDICT, THROTTLE], (qemu) => ours(MIB)(qemu)],
  ['it is slowed down', SLOWED, (qemu) => ours(MIB)(qemu)],
  [
    'it was about to be slowed down more',
    [...SLOWED, { ...THROTTLE, limitBytesPerSecond: MIB / 2 }],
    (qemu) => ours(MIB)(qemu),
  ],
  [
    'it is slowed down more, which is not recorded',
    [...SLOWED, { ...THROTTLE, limitBytesPerSecond: MIB / 2 }],
    (qemu) => ours(MIB / 2)(qemu),
  ],
  ['it is let go, which is not recorded', SLOWED, (qemu) => ours(NO_EFFECT)(qemu)],
  ['it is let go', [...SLOWED, TIME_IS_UP], (qemu) => ours(NO_EFFECT)(qemu)],
];

describe.each(Object.entries(ENDINGS))('a job that ends by %s leaves no limit', (_how, end) => {
  test.each(STORIES)('%s', async (_what, entries, limits) => {
    await using agent = await goOn(entries, limits);
    await end(agent);
    await agent.until(found.job);
    expect(found.scene.qemu.limitsOf('vd0')).toBeUndefined();
    const [job] = await jobsOf(agent);
    expect(job?.guestThrottle).toBeUndefined();
    expect(job?.throttle?.is).toBe('LIFTED');
  });
});

describe('a limit of another client', () => {
  test.each<[what: string, entries: readonly EntryBody[], limits: (qemu: FakeQemu) => void, left: object]>([
    ['set before ours', [VERDICT, THROTTLE], other, { iops: 500, group: 'theirs' }],
    ['set over ours', SLOWED, other, { iops: 500, group: 'theirs' }],
    ['set over ours, in our group', SLOWED, (qemu) => otherInOurs(qemu), { iops: 500 }],
    ['set when ours was lifted', [...SLOWED, TIME_IS_UP], other, { iops: 500, group: 'theirs' }],
    ['none: it has taken ours away', SLOWED, none, {}],
  ])('stays, and that is written down: %s', async (_what, entries, limits, left) => {
    await using agent = await goOn(entries, limits);
    await abort(agent, { pivot: true });
    await agent.until(found.job);
    expect(found.scene.qemu.limitsOf('vd0') ?? {}).toMatchObject(left);
    expect(Object.keys(found.scene.qemu.limitsOf('vd0') ?? {}).length > 0).toBe(Object.keys(left).length > 0);
    const job = present((await jobsOf(agent))[0]);
    expect(job.throttle?.is).toBe('LIFTED');
    expect(await history(agent)).toContainEqual(expect.stringContaining('another client has changed the limit'));
  });
});

/** All entries of the job, in words. */
async function history({ agent }: TestAgent): Promise<readonly string[]> {
  const told: string[] = [];
  const request = { job: { jobId: found.job }, afterRevision: 1, progressIntervalMs: undefined };
  for await (const { detail } of agent.watch(request, PATIENT)) told.push(detail);
  return told;
}

const NO_OUTCOME = {
  guestWritesTo: undefined,
  destinationContent: 'UNKNOWN',
  asOf: undefined,
  destinationRemoved: false,
  safeToDelete: [],
  evidence: [],
} as const;
const GIVEN_UP: readonly EntryBody[] = [
  ...SLOWED,
  { entry: 'cancel-requested', force: true },
  { entry: 'concluded', how: 'GIVEN_UP', qemuError: undefined, deviceOn: 'NOWHERE', devicePath: undefined },
  { entry: 'ended', state: 'UNRESOLVED', failure: undefined, outcome: NO_OUTCOME },
];

describe('after a crash', () => {
  test('a job whose journal is lost lets its guest go at once, and leaves no mark', async () => {
    const { scene, job, world } = found;
    scene.restore(world);
    ours(MIB)(scene.qemu);
    await using agent = await scene.agent({ job, text: undefined });
    // The agent of this test has the same owner as the one that began the job.
    await expect.poll(() => scene.qemu.limitsOf('vd0'), SOON).toMatchObject({ bps_wr: NO_EFFECT });
    await abort(agent, { force: true });
    await agent.until(job);
    expect(scene.qemu.limitsOf('vd0')).toBeUndefined();
  });

  test('a limit without a job in QEMU, and without a journal, is taken away', async () => {
    const { scene, world } = found;
    scene.restore(world);
    const gone = 'bjc0ffee0000000001';
    scene.qemu.limit({ id: QDEV, bps_wr: MIB, group: gone });
    await using _agent = await scene.agent({ job: found.job, text: found.text });
    await expect.poll(() => scene.qemu.limitsOf('vd0'), SOON).toBeUndefined();
  });

  test('a limit of a job of another state folder stays', async () => {
    const { scene, world } = found;
    scene.restore(world);
    scene.qemu.limit({ id: QDEV, bps_wr: MIB, group: 'bj0123450000000001' });
    await using agent = await scene.agent({ job: found.job, text: found.text });
    await abort(agent, { pivot: true });
    await agent.until(found.job);
    expect(scene.qemu.limitsOf('vd0')).toMatchObject({ group: 'bj0123450000000001' });
  });

  test('a limit of a job that was given up is a leftover while QEMU is silent', async () => {
    const { scene, job, text, world } = found;
    scene.restore(world);
    ours(MIB)(scene.qemu);
    await using agent = await scene.agent({ job, text: text + written(GIVEN_UP) }, { isConnected: false });
    const { items } = await agent.agent.listLeftovers({ domain: '', pageSize: 0, pageToken: '' }, PATIENT);
    const [left] = items.filter(({ kind }) => kind === 'THROTTLE');
    expect(left).toMatchObject({ id: `throttle:${job}`, domain: 'vm1', jobId: job });
    expect(left?.blockedBy).toContain('QEMU does not answer');
    expect((await jobsOf(agent))[0]?.guestThrottle).toBeUndefined();
  });

  test('a limit of a job that was given up is a leftover, and is taken away when QEMU is back', async () => {
    const { scene, job, text, world } = found;

    scene.restore(world);
    scene.qemu.anyJob(job)?.fail('Input/output error');
    ours(MIB)(scene.qemu);
    await using agent = await scene.agent({ job, text: text + written(GIVEN_UP) });
    await expect.poll(() => scene.qemu.limitsOf('vd0'), SOON).toBeUndefined();
    const page = await agent.agent.listLeftovers({ domain: '', pageSize: 0, pageToken: '' }, PATIENT);
    expect(page.items.filter(({ kind }) => kind === 'THROTTLE')).toEqual([]);
    // Another service of this journal finds it again, and this one lists it.
    ours(MIB)(scene.qemu);
    const again = await agent.agent.listLeftovers({ domain: '', pageSize: 0, pageToken: '' }, PATIENT);
    const [left] = again.items.filter(({ kind }) => kind === 'THROTTLE');
    expect(left).toMatchObject({ id: `throttle:${job}`, name: QDEV, blockedBy: '' });
    await agent.agent.reclaim({ ids: [`throttle:${job}`], apply: true, requestId: '' }, PATIENT);
    expect(scene.qemu.limitsOf('vd0')).toBeUndefined();
  });
});

describe('a start that may slow its guest down', () => {
  const endPolicy = { ...NO_STEPS, guestThrottle: { floorBytesPerSecond: BigInt(MIB), maxDurationMs: 1000 } };

  test('is refused if another client limits the disk', async () => {
    await using scene = await Scene.begin();
    other(scene.qemu);
    await using agent = await scene.agent();
    const slowing = agent.startCopy(copyTo(scene.path('copy'), { format: 'RAW', endPolicy }));
    await expect(slowing).rejects.toMatchObject({ failure: { reason: 'GUEST_LIMIT_SHARED' } });
    // Another copy does not mind.
    const { job } = await agent.startCopy(copyTo(scene.path('copy'), { format: 'RAW' }));
    await abortIn(agent, job.accepted.job);
  });

  test('has a patience of its own accord', async () => {
    await using scene = await Scene.begin();
    await using agent = await scene.agent();
    const { job } = await agent.startCopy(copyTo(scene.path('copy'), { format: 'RAW', endPolicy }));
    expect(job.accepted.options.endPolicy?.patienceMs).toBe(60_000);
    await abortIn(agent, job.accepted.job);
  });
});

async function abortIn({ agent }: TestAgent, jobId: string): Promise<void> {
  const plain = { pivot: false, returnImmediately: false, force: true, pauseGuest: undefined, requestId: '' };
  await agent.abort({ job: { jobId }, ...plain }, PATIENT);
}
