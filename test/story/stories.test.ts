/**
 * Stories that a reviewer reads. The product produces each one again, and the test compares it with the text beside
 * this file. `make rewrite-stories` writes the texts; commit a change only if you understand its cause.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Story } from '../support/fake-qemu/story.ts';
import { until } from '../support/until.ts';

/** The text beside this file, written again first if that is requested. */
async function told(name: string, story: Story): Promise<string> {
  const path = join(import.meta.dirname, `${name}.txt`);
  if (process.env['REWRITE_STORIES'] === '1') await writeFile(path, story.text);
  return await readFile(path, 'utf8');
}

test('copy, then pivot', async () => {
  await using story = await Story.begin('A copy that holds at READY until its caller asks for the pivot.');
  const job = (await story.startCopy()) ?? '';
  story.qemu.job(job).becomeReady();
  await story.until(job, 'READY');
  await story.abort(job, { pivot: true });
  expect(await story.end(job)).toBe(await told('copy-then-pivot', story));
});

test('copy, then abort before READY', async () => {
  await using story = await Story.begin('A copy is cancelled before it is READY: its file is useless, and is deleted.');
  const job = (await story.startCopy()) ?? '';
  await story.abort(job);
  expect(await story.end(job)).toBe(await told('copy-then-abort-before-ready', story));
});

test('copy, and finish', async () => {
  await using story = await Story.begin('on_ready FINISH: the service ends the copy by itself, and nobody moves.');
  const job = (await story.startCopy({ onReady: 'FINISH' })) ?? '';
  story.qemu.job(job).becomeReady();
  await story.until(job, 'COMPLETED');
  expect(await story.end(job)).toBe(await told('copy-finish', story));
});

test('a start that is refused, and undone', async () => {
  await using story = await Story.begin('QEMU refuses the mirror: every step before it is undone.');
  story.qemu.failNext('blockdev-mirror', 'Invalid parameter combination');
  const job = await story.startCopy();
  expect(await story.end(job)).toBe(await told('start-refused-and-undone', story));
});

test('the answer to blockdev-add is lost', async () => {
  await using story = await Story.begin(
    'The connection breaks after QEMU has added a node and before it says so.\nNobody knows, so the step is undone too.',
  );
  story.qemu.dropConnectionAfter('blockdev-add');
  const job = await story.startCopy();
  expect(await story.end(job)).toBe(await told('start-reply-lost-node', story));
});

test('the answer to blockdev-mirror is lost', async () => {
  await using story = await Story.begin(
    'The connection breaks after QEMU has begun the mirror and before it says so.\nThe job is found, and goes on.',
  );
  story.qemu.dropConnectionAfter('blockdev-mirror');
  const job = (await story.startCopy()) ?? '';
  story.qemu.job(job).becomeReady();
  await story.until(job, 'READY');
  await story.abort(job, { pivot: true });
  expect(await story.end(job)).toBe(await told('start-reply-lost-mirror', story));
});

test('the pivot of an NVMe disk pauses the guest', async () => {
  await using story = await Story.begin(
    'QEMU 7.2 can crash when a busy NVMe disk pivots: the guest is paused for that instant.',
    { disk: { bus: 'nvme' } },
  );
  const job = (await story.startCopy({ onReady: 'PIVOT' })) ?? '';
  story.qemu.job(job).becomeReady();
  await story.until(job, 'COMPLETED');
  expect(await story.end(job)).toBe(await told('pivot-of-nvme-pauses-the-guest', story));
});

test('pull', async () => {
  await using story = await Story.begin(
    'The guest stays where it is, and its image takes in all that is below it: proved before the old ones are let go.',
    { lower: ['base'] },
  );
  const job = (await story.rebase()) ?? '';
  story.qemu.job(job).reachEnd();
  await story.until(job, 'COMPLETED');
  expect(await story.end(job)).toBe(await told('pull', story));
});

test('commit of the active image, then pivot', async () => {
  await using story = await Story.begin(
    'The writes of the guest go into the image below, and then the guest moves there.',
    {
      lower: ['base'],
    },
  );
  const job = (await story.commit({ flags: ['ACTIVE'] })) ?? '';
  story.qemu.job(job).becomeReady();
  await story.until(job, 'READY');
  await story.abort(job, { pivot: true });
  expect(await story.end(job)).toBe(await told('commit-then-pivot', story));
});

test('the answer to block-commit is lost, and the commit fails', async () => {
  await using story = await Story.begin(
    'The answer that QEMU has begun is lost: the job is found, then fails. No data is claimed for the image below.',
    { lower: ['base', 'middle'] },
  );
  story.qemu.dropConnectionAfter('block-commit');
  const job = (await story.commit({ top: `${story.dir}/middle.qcow2` })) ?? '';
  story.qemu.job(job).fail('Input/output error');
  await story.until(job, 'FAILED');
  expect(await story.end(job)).toBe(await told('commit-reply-lost-and-failed', story));
});

test('the agent restarts while a job is READY', async () => {
  await using story = await Story.begin('Jobs live in QEMU: the next agent takes them up from the journal.');
  const job = (await story.startCopy()) ?? '';
  story.qemu.job(job).becomeReady();
  await story.until(job, 'READY');
  await story.restartAgent();
  await story.abort(job, { pivot: true });
  expect(await story.end(job)).toBe(await told('agent-restarts-while-ready', story));
});

test('QEMU dies before READY', async () => {
  await using story = await Story.begin('The process is gone: nothing is claimed that cannot be seen.');
  const job = (await story.startCopy()) ?? '';
  story.say('QEMU is killed');
  await story.qemu.die();
  await story.until(job, 'FAILED');
  expect(await story.end(job)).toBe(await told('qemu-dies-before-ready', story));
});

test('QEMU dies in the middle of a pivot', async () => {
  await using story = await Story.begin('Nobody can say which image it was on: neither is named safe to delete.');
  const job = (await story.startCopy()) ?? '';
  story.qemu.job(job).becomeReady();
  await story.until(job, 'READY');
  story.qemu.dieAt('job-complete');
  await story.abort(job, { pivot: true });
  expect(await story.end(job)).toBe(await told('qemu-dies-in-a-pivot', story));
});

test('the destination is full, and has room again', async () => {
  await using story = await Story.begin('A copy that finds no room waits for some, and loses nothing.');
  const job = (await story.startCopy({ onReady: 'FINISH' })) ?? '';
  story.say('the destination is full');
  story.qemu.job(job).runOutOfSpace();
  await story.untilTold(job, 'paused');
  story.say('somebody makes room');
  await story.resume(job);
  story.qemu.job(job).becomeReady();
  await story.until(job, 'COMPLETED');
  expect(await story.end(job)).toBe(await told('destination-full', story));
});

test('the service is killed in the middle of a pivot', { timeout: 120_000 }, async () => {
  await using story = await Story.begin(
    'QEMU pivots, and nobody hears of it. The next service finds the guest on the copy, and goes on from there.',
    { serves: 'PROCESS' },
  );
  const job = (await story.startCopy()) ?? '';
  story.qemu.job(job).becomeReady();
  await story.until(job, 'READY');
  story.killServiceAt('job-complete');
  await story.abort(job, { pivot: true });
  await story.restartAgent();
  await story.until(job, 'COMPLETED');
  expect(await story.end(job)).toBe(await told('service-killed-in-a-pivot', story));
});

test('the guest leaves the host during a copy', async () => {
  await using story = await Story.begin(
    'The guest leaves during a copy: it matches no point in time of the disk, is never READY, and only force ends it.',
  );
  const job = (await story.startCopy({ onReady: 'PIVOT' })) ?? '';
  story.say('the guest begins to migrate to another QEMU');
  story.qemu.migrate('active');
  story.qemu.job(job).becomeReady();
  await story.abort(job, { pivot: true });
  story.say('the guest has left');
  story.qemu.migrate('completed');
  await story.abort(job, { force: true });
  expect(await story.end(job)).toBe(await told('guest-leaves-during-copy', story));
});

test('a pivot while the guest migrates', async () => {
  await using story = await Story.begin(
    'The migration begins when the guest is paused for its pivot: the guest goes on, and the pivot waits until it has stayed.',
  );
  const job = (await story.startCopy()) ?? '';
  story.qemu.job(job).becomeReady();
  await story.until(job, 'READY');
  story.when('stop', () => {
    story.say('the guest begins to migrate to another QEMU');
    story.qemu.migrate('active');
  });
  await story.abort(job, { pivot: true, returnImmediately: true, pauseGuest: 'ALWAYS' });
  await story.untilTold(job, 'guest resumed');
  await until('the guest runs', story.qemu.guestChanged, () => story.qemu.guestRuns);
  await story.abort(job, { pivot: true });
  story.say('the migration is cancelled');
  story.qemu.migrate('cancelled');
  await story.until(job, 'COMPLETED');
  expect(await story.end(job)).toBe(await told('pivot-while-guest-migrates', story));
});

test('through a gateway with a policy', { timeout: 60_000 }, async () => {
  await using story = await Story.begin(
    'Each call goes to the agent that has the VM; all who watch share one stream to it.',
    { serves: 'GATEWAY' },
  );
  const job = (await story.startCopy()) ?? '';
  await story.watch(job);
  story.qemu.job(job).becomeReady();
  await story.until(job, 'READY');
  await story.abort(job, { pivot: true });
  expect(await story.end(job)).toBe(await told('copy-through-a-gateway', story));
});
