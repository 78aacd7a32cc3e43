/** validate_only: the effect of a start is reported and not done, and a start can be bound to it. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  CommitFlag,
  CommitRequest,
  type Plan,
  PlanStep_Phase,
  RebaseRequest,
  StartCopyRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import { Job_State, JobKind, PauseGuest } from '../../generated/blockjob/v1/job.ts';
import { graphOf, journalEntries, listing } from '../support/checks.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

const { PHASE_START, PHASE_PIVOT, PHASE_CANCEL, PHASE_CLEAN_UP, PHASE_FINISH } = PlanStep_Phase;

const PHASES = new Map<PlanStep_Phase, string>([
  [PHASE_START, 'START'],
  [PHASE_FINISH, 'FINISH'],
  [PHASE_PIVOT, 'PIVOT'],
  [PHASE_CANCEL, 'CANCEL'],
  [PHASE_CLEAN_UP, 'CLEAN_UP'],
]);

let site: Site;

interface Row {
  readonly what: string;
  readonly rpc: 'startCopy' | 'rebase' | 'commit';
  readonly request: (machine: Machine) => StartCopyRequest | RebaseRequest | CommitRequest;
  readonly kind: JobKind;
  /** `phase name`, except for the nodes that are closed: their number depends on the chain. */
  readonly steps: readonly string[];
}

function copyOf({ disk, dir }: Machine, more: Parameters<typeof StartCopyRequest.fromPartial>[0] = {}) {
  return StartCopyRequest.fromPartial({
    disk,
    destination: { target: { $case: 'file', value: join(dir, 'copy') } },
    ...more,
  });
}

const ROWS: readonly Row[] = [
  {
    what: 'a copy',
    rpc: 'startCopy',
    request: (machine) => copyOf(machine),
    kind: JobKind.JOB_KIND_COPY,
    steps: [
      'START create-destination',
      'START add-destination-file',
      'START prove-destination',
      'START format-destination',
      'START add-destination',
      'START start-mirror',
      'PIVOT carry-bitmaps',
      'PIVOT job-complete',
      'CANCEL job-cancel',
      'CANCEL block-job-cancel',
      'CLEAN_UP sync-destination',
      'CLEAN_UP dismiss-job',
      'CLEAN_UP remove-destination',
    ],
  },
  {
    what: 'a copy that pauses its guest',
    rpc: 'startCopy',
    request: (machine) => copyOf(machine, { pauseGuest: PauseGuest.PAUSE_GUEST_ALWAYS }),
    kind: JobKind.JOB_KIND_COPY,
    steps: [
      'START create-destination',
      'START add-destination-file',
      'START prove-destination',
      'START format-destination',
      'START add-destination',
      'START start-mirror',
      'PIVOT carry-bitmaps',
      'PIVOT hold-guest',
      'PIVOT job-complete',
      'PIVOT release-guest',
      'CANCEL job-cancel',
      'CANCEL block-job-cancel',
      'CLEAN_UP sync-destination',
      'CLEAN_UP dismiss-job',
      'CLEAN_UP remove-destination',
    ],
  },
  {
    what: 'a pull',
    rpc: 'rebase',
    request: ({ disk }) => RebaseRequest.fromPartial({ disk }),
    kind: JobKind.JOB_KIND_PULL,
    steps: [
      'START start-pull',
      'FINISH flush-data',
      'FINISH job-finalize',
      'FINISH flush-header',
      'CANCEL job-cancel',
      'CLEAN_UP dismiss-job',
    ],
  },
  {
    what: 'a commit of lower images',
    rpc: 'commit',
    request: ({ disk }) => CommitRequest.fromPartial({ disk, top: 'disk0[1]' }),
    kind: JobKind.JOB_KIND_COMMIT,
    steps: [
      'START start-commit',
      'FINISH flush-data',
      'FINISH job-finalize',
      'FINISH flush-header',
      'CANCEL job-cancel',
      'CLEAN_UP dismiss-job',
    ],
  },
  {
    what: 'an active commit that deletes',
    rpc: 'commit',
    request: ({ disk }) =>
      CommitRequest.fromPartial({ disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE, CommitFlag.COMMIT_FLAG_DELETE] }),
    kind: JobKind.JOB_KIND_ACTIVE_COMMIT,
    steps: [
      'START start-commit',
      'PIVOT carry-bitmaps',
      'PIVOT job-complete',
      'CANCEL job-cancel',
      'CANCEL block-job-cancel',
      'CLEAN_UP sync-destination',
      'CLEAN_UP dismiss-job',
      'CLEAN_UP delete-top',
      'CLEAN_UP delete-snap1',
    ],
  },
];

function inShort({ steps }: Plan, { chain }: Machine): readonly string[] {
  const images = new Map(chain.toReversed().map(({ path }, index) => [path, index === 0 ? 'top' : `snap${index}`]));
  return steps
    .map(({ phase, name }) => [PHASES.get(phase), name.replace(/\/.*$/, (path) => images.get(path) ?? path)])
    .map((words) => words.join(' '))
    .filter((words) => !words.startsWith('CLEAN_UP close-'));
}

describe('a plan', () => {
  beforeAll(async () => {
    site = await Site.open();
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test.each(ROWS)('of $what changes nothing, and matches the later job', async ({ rpc, request, kind, steps }) => {
    await using machine = await site.machine();
    const { qemu, dir, disk } = machine;
    const world = async () => [
      await graphOf(qemu.admin),
      await listing(dir),
      await readdir(join(site.stateFolder, 'jobs')),
    ];
    const before = await world();
    const plan = await site.service.planOf(rpc, request(machine));
    expect(await world()).toEqual(before);
    expect((await site.service.listJobs({ domain: disk.domain })).jobs).toEqual([]);
    expect(plan).toMatchObject({ kind, sourcePath: machine.top.path });
    const { destination } = request(machine) as Partial<StartCopyRequest>;
    expect(plan.destination?.target).toEqual(destination?.target);
    expect(inShort(plan, machine)).toEqual(steps);
    // A step whose command is only known when it runs has no command. Only steps of the start can be undone.
    const without = plan.steps.filter(({ run: command }) => command === '').map(({ name }) => name);
    expect(without).toEqual(plan.steps.map(({ name }) => name).filter((name) => /^(?:carry|flush)-/.test(name)));
    expect(plan.steps.filter(({ phase, undo }) => phase !== PHASE_START && undo !== '')).toEqual([]);
    expect(await site.service.planOf(rpc, request(machine))).toEqual(plan);

    const bound = { ...request(machine), planEtag: plan.etag };
    const job = await site.service.start(rpc, bound);
    const planned = (phase: PlanStep_Phase) => plan.steps.filter((step) => step.phase === phase);
    if (planned(PHASE_PIVOT).length > 0) {
      await site.service.until(job.id, 'STATE_READY');
      await site.service.abort({ job: byId(job.id), pivot: true });
    }
    const ended = await site.ended(job);
    expect(ended.state).toBe(Job_State.STATE_COMPLETED);
    const journal = await journalEntries(site.stateFolder, job.id, ended.revision);
    const text = JSON.stringify(journal[0]).replaceAll(job.id, 'bj0000000000000000');
    const commands = planned(PHASE_START).flatMap(({ run: words }) => (words.startsWith('{') ? [words] : []));
    expect(commands.filter((words) => !text.includes(words))).toEqual([]);
    const cleaned = planned(PHASE_CLEAN_UP).filter(({ reason }) => reason !== 'if it is cancelled');
    const done = journal.flatMap(({ entry, step }) => (entry === 'step-done' ? [step] : []));
    expect(done).toEqual([...planned(PHASE_START), ...cleaned].map(({ name }) => name));
  });

  test('that is no longer true starts nothing: PLAN_CHANGED', async () => {
    await using machine = await site.machine();
    const { qemu, dir, disk } = machine;
    const request = copyOf(machine);
    const { etag } = await site.service.planOf('startCopy', request);
    const overlay = join(dir, 'overlay.qcow2');
    await run('qemu-img', ['create', '-qfqcow2', '-Fqcow2', '-b', machine.top.path, overlay]);
    const file = { driver: 'file', filename: overlay };
    await qemu.admin.execute('blockdev-add', { driver: 'qcow2', 'node-name': 'overlay', file, backing: null });
    const { disks } = await site.service.getDomain(disk.domain);
    await qemu.admin.execute('blockdev-snapshot', { node: disks[0]?.nodeName, overlay: 'overlay' });
    const before = await graphOf(qemu.admin);
    const refusal = await refused(site.service.startCopy({ ...request, planEtag: etag }));
    expect(refusal).toMatchObject({ reason: 'PLAN_CHANGED' });
    expect(await graphOf(qemu.admin)).toEqual(before);
    const anew = await site.service.planOf('startCopy', request);
    expect((await site.service.startCopy({ ...request, planEtag: anew.etag })).sourcePath).toBe(overlay);
  });

  test('says that a buffer is raised to the smallest that QEMU supports', async () => {
    await using machine = await site.machine();
    const planned = async (bufferBytes: bigint) =>
      await site.service.planOf('startCopy', copyOf(machine, { bufferBytes }));
    for (const { wish, notes } of [
      { wish: 0n, notes: [] },
      { wish: 16_777_216n, notes: [] },
      { wish: 16_777_215n, notes: [expect.stringContaining('buffer_bytes 16777215 is raised to 16777216')] },
    ]) {
      const plan = await planned(wish);
      expect(plan.notes.filter((note) => !note.startsWith('needs about'))).toEqual(notes);
      expect(plan.options?.bufferBytes).toBe(16_777_216n);
    }
  });

  test('of a start that would be refused is refused', async () => {
    await using machine = await site.machine();
    const nowhere = { destination: { target: { $case: 'file', value: '/nowhere/x' } } } as const;
    expect(await refused(site.service.planOf('startCopy', copyOf(machine, nowhere)))).toMatchObject({
      reason: 'DESTINATION_NOT_ALLOWED',
    });
    const job = await site.service.startCopy({ ...copyOf(machine), bandwidthBytesPerSecond: 65_536n });
    expect(await refused(site.service.planOf('startCopy', copyOf(machine)))).toMatchObject({
      reason: 'BLOCK_COPY_ACTIVE',
      metadata: { job: job.id },
    });
  });
});
