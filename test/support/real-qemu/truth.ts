/**
 * Compares the product's answers about a job that is over with the real actions of the fake QEMU, and with the real
 * files.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { expect } from 'vitest';
import { decodeJournal } from '../../../src/agent/journal/journal.ts';
import { hasEnded } from '../../../src/core/job/job.ts';
import { jobsOf, type WholeJob } from '../fake-qemu/courses.ts';
import type { Scene, SceneMoment } from '../fake-qemu/scene.ts';
import { PATIENT, type TestAgent } from '../service/agent.ts';
import { until } from '../until.ts';

export interface Truth {
  readonly scene: Scene;
  readonly agent: TestAgent;
  readonly job: string;
  /** Before there was any job. */
  readonly before: SceneMoment;
  /** The world went on while nobody recorded it: facts that cannot be known may be UNKNOWN, and no others. */
  readonly unseen?: boolean;
  /** QEMU has refused a command: a node or a job may stay in it, and is in the list of leftovers. */
  readonly mayLeave?: boolean;
  /** QEMU has refused a flush: a job that is done is UNRESOLVED, or was cancelled. */
  readonly unflushed?: boolean;
}

/** After the agent is gone: a complete journal of each job that exists, and of no other. */
export async function expectJournals({ jobsFolder }: TestAgent, jobs: readonly string[]): Promise<void> {
  const names = await readdir(jobsFolder);
  expect(names, 'the journals').toEqual(jobs.map((job) => `${job}.jsonl`));
  for (const name of names) {
    const text = await readFile(join(jobsFolder, name), 'utf8');
    const read = decodeJournal(Buffer.from(text));
    expect(read?.wholeBytes, 'the bytes of the journal that are whole').toBe(Buffer.byteLength(text));
    expect(read && hasEnded(read.job), 'the journal goes to the end').toBe(true);
  }
}

/** The view of a watcher: the entries of the journal, whatever is looked up for other answers. */
async function watched({ agent }: TestAgent, job: string): Promise<WholeJob | undefined> {
  const request = { job: { jobId: job }, afterRevision: undefined, progressIntervalMs: undefined };
  for await (const event of agent.watch(request, PATIENT)) return event.job as WholeJob;
  return undefined;
}

/** The ids of the existing jobs. */
export async function expectTruth(truth: Truth): Promise<readonly string[]> {
  const { agent, job: id, scene } = truth;
  const jobs = await jobsOf(agent);
  expect(jobs.filter(({ accepted }) => accepted.job !== id)).toEqual([]);
  const [job] = jobs;
  if (job === undefined) expectNoTrace(truth);
  else {
    expectNothingFalse(truth, job);
    const told = await watched(agent, id);
    expect(told?.state).toBe(job.state);
    if (told !== undefined) expectNothingFalse(truth, told);
    if (truth.unseen !== true) expectAllKnown(truth, job);
  }
  await expectNothingLost(truth, job);
  // A `cont` that QEMU refuses is tried again after a second.
  if (scene.qemu.alive) await until('the guest runs', scene.qemu.guestChanged, () => scene.qemu.guestRuns);
  return jobs.map(({ accepted }) => accepted.job);
}

/** A start that was undone leaves no trace. */
function expectNoTrace({ scene, job, before, unseen }: Truth): void {
  const end = scene.qemu.anyJob(job)?.state.end;
  if (unseen === true && (end === 'DONE' || end === 'COPIED')) return;
  expect(end, 'the end of a job that nobody reports').not.toBe('DONE');
  expect(end, 'the end of a job that nobody reports').not.toBe('COPIED');
  expect([...scene.now.files], 'the files').toEqual([...before.files]);
  expect(scene.qemu.jobs, 'the jobs in QEMU').toEqual([]);
  if (scene.qemu.alive) expect(scene.qemu.nodes, 'the nodes').toEqual([...before.qemu.graph.nodes.keys()]);
}

/** Whatever happened, the answers never claim any of this wrongly. */
function expectNothingFalse({ scene, job: id, before }: Truth, job: WholeJob): void {
  const { state, outcome, intent, accepted } = job;
  const { qemu } = scene;
  const { end, endTime = '' } = qemu.anyJob(id)?.state ?? {};
  const device = qemu.pathOf(qemu.rootOf('vd0') ?? '');
  const { guestWritesTo, destinationContent, asOf, safeToDelete, destinationRemoved, setConfigBackTo } = outcome;
  expect(['COMPLETED', 'CANCELLED', 'FAILED', 'UNRESOLVED'], 'an end').toContain(state);
  if (guestWritesTo !== undefined && qemu.alive)
    expect(guestWritesTo, 'the image that the guest writes to').toBe(device);
  if (state === 'COMPLETED') {
    const finished = end === 'COPIED' && intent?.entry === 'finish-requested';
    expect(finished ? 'DONE' : end, 'the end of a job that is COMPLETED').toBe('DONE');
  }
  if (destinationContent === 'COMPLETE') {
    expect(['DONE', 'COPIED'], 'the end of a copy that is COMPLETE').toContain(end);
    if (end === 'DONE') expect(asOf, 'a copy that is the disk itself has no age').toBeUndefined();
    else expect(asOf !== undefined && asOf <= endTime, `${asOf} is no later than ${endTime}`).toBe(true);
    expect(existsSync(accepted.destination?.path ?? ''), 'a COMPLETE copy is there').toBe(true);
  }
  expectGateHeld(job, end);
  if (setConfigBackTo !== undefined && qemu.alive) expect(setConfigBackTo, 'the image of the next start').toBe(device);
  if (destinationRemoved) expect(existsSync(accepted.destination?.path ?? ''), 'removed').toBe(false);
  const held = qemu.nodes.map((node) => qemu.pathOf(node));
  for (const { path } of safeToDelete) {
    expect(held, 'the files that some node holds').not.toContain(path);
    const isOwnRubbish = accepted.kind === 'COPY' && path === accepted.destination?.path;
    if (isOwnRubbish) expect(['CANCELLED', 'FAILED'], `the end of a job whose ${basename(path)} may go`).toContain(end);
    else expect(end, `the end of a job after which ${basename(path)} may go`).toBe('DONE');
    if (isOwnRubbish) expect(before.files.has(basename(path)), 'a file that the job did not make').toBe(false);
  }
}

/** No pivot of a job with an external owner without a record, and none that must be set back was made. */
function expectGateHeld({ accepted, gate, pivotRequested, outcome }: WholeJob, end: string | undefined): void {
  if (accepted.options.configOwner !== 'EXTERNAL') return;
  if (pivotRequested) expect(gate?.recordTime, 'the record of a pivot').toBeDefined();
  if (end === 'DONE') expect(outcome.setConfigBackTo, 'a path to set back after a pivot').toBeUndefined();
}

/** If nothing was hidden, all facts are known and reported. */
function expectAllKnown({ scene, job: id, unflushed }: Truth, job: WholeJob): void {
  const { state, outcome, intent, accepted, gate } = job;
  const { qemu } = scene;
  const end = qemu.anyJob(id)?.state.end;
  const content = accepted.destination === undefined ? undefined : outcome.destinationContent;
  switch (end) {
    case 'DONE':
      expect(state).toBe(unflushed === true ? 'UNRESOLVED' : 'COMPLETED');
      if (accepted.destination !== undefined) expect(content).toBe('COMPLETE');
      break;
    case 'COPIED':
      expect(state).toBe(intent?.entry === 'finish-requested' ? 'COMPLETED' : 'CANCELLED');
      expect(content).toBe('COMPLETE');
      break;
    case 'CANCELLED':
      expect(['CANCELLED', 'FAILED']).toContain(state);
      if (accepted.destination !== undefined) expect(['PARTIAL', 'STALE']).toContain(content);
      break;
    case 'FAILED':
    case undefined:
      expect(state).toBe('FAILED');
  }
  const device = qemu.pathOf(qemu.rootOf('vd0') ?? '');
  if (end !== undefined) expect(outcome.guestWritesTo).toBe(device);
  // Its owner has recorded the destination: one step back, and it is right.
  if (gate !== undefined) expect(outcome.setConfigBackTo ?? accepted.destination?.path).toBe(device);
}

/**
 * Each object that exists and should not is in the list of leftovers; reclaimed, it is gone. No image is gone that was
 * needed.
 */
async function expectNothingLost(truth: Truth, job: WholeJob | undefined): Promise<void> {
  const { scene, agent, before, job: id, unseen } = truth;
  const { qemu } = scene;
  for (const name of before.files.keys()) {
    if (existsSync(scene.path(name))) continue;
    expect(qemu.anyJob(id)?.state.end, `the end of a job that deleted ${name}`).toBe('DONE');
    expect(qemu.nodes.map((node) => qemu.pathOf(node))).not.toContain(scene.path(name));
  }
  const inQemu = () => {
    const used = new Set([...before.qemu.graph.nodes.keys(), ...qemu.nodesOf('vd0')]);
    return [...qemu.nodes.filter((node) => !used.has(node)), ...qemu.jobs];
  };
  const leftOver = () => {
    const isCopy = job?.outcome.destinationContent === 'COMPLETE';
    const isHeld = (name: string) => qemu.nodesOf('vd0').some((node) => qemu.pathOf(node) === scene.path(name));
    const files = [...scene.now.files.keys()].filter((name) => !before.files.has(name) && !isCopy && !isHeld(name));
    return [...inQemu(), ...files.map((name) => scene.path(name))];
  };
  if (unseen === true && job === undefined) return;
  const mayLeave = truth.mayLeave === true || unseen === true;
  if (!mayLeave) expect(inQemu(), 'left over in QEMU, which has refused nothing').toEqual([]);
  const { items: leftovers } = await agent.agent.listLeftovers({ domain: '', pageSize: 0, pageToken: '' }, PATIENT);
  const listed = leftovers.map(({ name }) => name);
  expect(
    leftOver().filter((name) => !listed.includes(name)),
    'left over, and not listed',
  ).toEqual([]);
  const ids = leftovers.flatMap(({ id: one, blockedBy }) => (blockedBy === '' ? [one] : []));
  if (ids.length === 0) return;
  await agent.agent.reclaim({ ids, apply: true, requestId: '' }, PATIENT);
  const kept = leftovers.flatMap(({ name, blockedBy }) => (blockedBy === '' ? [] : [name]));
  expect(
    leftOver().filter((name) => !kept.includes(name)),
    'left over after all was reclaimed',
  ).toEqual([]);
}
