/**
 * The commands that a real QEMU takes and refuses in each status of a job, as test/support/fake-qemu/model-qemu.ts
 * says. The proof that every job ends depends on this model.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { QmpCommand } from '../../src/core/qemu/commands.ts';
import { flushesOf } from '../../src/core/qemu/flush.ts';
import type { QemuJobStatus } from '../../src/core/qemu/replies.ts';
import { eventually, present } from '../support/checks.ts';
import { ModelQemu, type ModelState, VERBS } from '../support/fake-qemu/model-qemu.ts';
import { needs } from '../support/means.ts';
import { type Qemu, startQemu } from '../support/real-qemu/qemu.ts';

type Verb = QmpCommand['execute'];
/** The statuses in which a job stays until a client acts. */
const STAYS = ['running', 'paused', 'ready', 'standby', 'pending', 'concluded'] as const;

let qemu: Qemu;
let last = 0;
/** Those of this QEMU: 7.2 has no block-job-change. */
let commands: ReadonlySet<string> = new Set();

/** Tries a command, and returns QEMU's error. */
async function tried(execute: string, args: Record<string, unknown>): Promise<string | undefined> {
  return await qemu.admin.execute(execute, args).then(
    () => undefined,
    (error: unknown) => String(error),
  );
}

function argumentsOf(verb: Verb, id: string): Record<string, unknown> {
  if (verb === 'block-job-set-speed') return { device: id, speed: 65_536 };
  if (verb === 'block-job-change') return { id, type: 'mirror', 'copy-mode': 'write-blocking' };
  return verb === 'block-job-cancel' ? { device: id, force: false } : { id };
}

async function is(id: string, status: QemuJobStatus): Promise<void> {
  await eventually(`job ${id} is ${status}`, async () => {
    const jobs = await qemu.admin.execute<{ id: string; status: string }[]>('query-jobs');
    return jobs.some((job) => job.id === id && job.status === status) || undefined;
  });
}

/** A mirror of nothing, in that status. */
async function jobIn(status: (typeof STAYS)[number]): Promise<string> {
  last += 1;
  const id = `job${last}`;
  for (const node of [`${id}-from`, `${id}-to`]) {
    const size = 64 * 1024 * 1024;
    await qemu.admin.execute('blockdev-add', { driver: 'null-co', 'node-name': node, size, 'read-zeroes': true });
  }
  const isSlow = status === 'running' || status === 'paused';
  await qemu.admin.execute('blockdev-mirror', {
    'job-id': id,
    device: `${id}-from`,
    target: `${id}-to`,
    sync: 'full',
    speed: isSlow ? 65_536 : 0,
    'auto-finalize': status !== 'pending',
    'auto-dismiss': false,
  });
  await is(id, isSlow ? 'running' : 'ready');
  if (status === 'paused' || status === 'standby') await qemu.admin.execute('job-pause', { id });
  if (status === 'pending') await qemu.admin.execute('job-complete', { id });
  if (status === 'concluded') await qemu.admin.execute('job-cancel', { id });
  await is(id, status);
  return id;
}

function model(status: (typeof STAYS)[number]): ModelQemu {
  const state: ModelState = {
    status,
    halt: status === 'paused' || status === 'standby' ? 'USER' : undefined,
    guestRuns: true,
    guestMigrates: false,
    hangs: 'NOT',
    presence: 'UP',
    header: 'OLD',
    flushes: true,
  };
  return new ModelQemu('COPY', state, { speed: 0, pivots: true });
}

describe.skipIf(needs('qemu'))('the model of QEMU is true', { timeout: 60_000 }, () => {
  beforeAll(async () => {
    qemu = await startQemu({ style: 'blockdev', name: 'vm', disks: [] });
    const known = await qemu.admin.execute<{ name: string }[]>('query-commands');
    commands = new Set(known.map(({ name }) => name));
  });
  afterAll(async () => {
    await qemu[Symbol.asyncDispose]();
  });

  test.for(STAYS.flatMap((status) => (Object.keys(VERBS) as Verb[]).map((verb) => [verb, status] as const)))(
    '%s of a job that is %s',
    async ([verb, status], { skip }) => {
      if (!commands.has(verb)) return skip();
      const id = await jobIn(status);
      const [real, said] = [await tried(verb, argumentsOf(verb, id)), model(status).execute(command(verb, id))];
      expect(kindOf(real), real).toBe(kindOf(said));
    },
  );

  test('a flush whose error is reported is refused in these words', async () => {
    const { command: flush } = present(flushesOf(`${await jobIn('ready')}-to`)[0]);
    const real = await tried(flush.execute, { ...('arguments' in flush ? flush.arguments : {}) });
    expect(real).toContain(present(model('ready').execute(flush)));
  });
});

/** The command is taken, or refused: because of the status, or for another reason. */
function kindOf(refusal: string | undefined): string {
  if (refusal === undefined) return 'taken';
  return /cannot accept command verb/.test(refusal) ? 'wrong status' : 'refused';
}

function command(verb: Verb, id: string): QmpCommand {
  return { execute: verb, arguments: argumentsOf(verb, id) } as unknown as QmpCommand;
}
