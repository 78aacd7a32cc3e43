/** A service that does not see QEMU's process in /proc, or sees another: each line of docs/operations.md about it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { encodeLine } from '../../src/agent/journal.ts';
import type { EntryBody, JournalEntry } from '../../src/core/journal-entry.ts';
import { Site } from '../support/bench-qemu.ts';
import { byId } from '../support/caller.ts';
import { eventually } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { metCopy } from '../support/met-copy.ts';
import { canSeeLess, HIDEPID, OTHER_UID, PID_NAMESPACE, seeAs } from '../support/sights.ts';

async function entriesOf(journal: string): Promise<readonly JournalEntry[]> {
  const lines = (await readFile(journal, 'utf8')).trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line.slice(9)) as JournalEntry);
}

/** As a service leaves it that dies right after these entries. */
async function goOnWith(journal: string, ...bodies: readonly EntryBody[]): Promise<void> {
  const entries = await entriesOf(journal);
  const last = entries.at(-1)?.revision ?? 0;
  const time = new Date().toISOString();
  const more = bodies.map((body, index): JournalEntry => ({ ...body, revision: last + 1 + index, time }));
  await writeFile(journal, [...entries, ...more].map(encodeLine).join(''));
}

const SIGHTS = [PID_NAMESPACE, HIDEPID, OTHER_UID];

describe.skipIf(needs('qemu') || !canSeeLess())('a service that is started again where it has', () => {
  test.each(SIGHTS)('$name: goes on with a copy, pivots it, and sees its guest go on', async (sight) => {
    await using site = await Site.open();
    await using it = await metCopy(site, 'READY');
    const { machine, job, path } = it;
    const { domain } = machine.disk;
    await site.restart('SIGKILL', domain, async () => await seeAs(sight, site, machine));
    // It does not tell which process it is, as it does not know.
    expect((await site.service.getDomain(domain)).qemuPid).toBe(0);
    expect(await site.service.getInfo(job.id)).toMatchObject({ state: Job_State.STATE_READY, error: undefined });
    await machine.guest.write(2);
    expect(await site.service.abort({ job: byId(job.id), pivot: true })).toMatchObject({
      state: Job_State.STATE_COMPLETED,
      outcome: { guestWritesTo: path },
    });
    expect(await site.service.listLeftovers(domain)).toEqual([]);
    await machine.qemu[Symbol.asyncDispose]();
    await machine.guest.expectIn(path, 'qcow2');
  });

  test.each(SIGHTS)('$name: continues a guest that was held, and goes on with its pivot', async (sight) => {
    await using site = await Site.open();
    await using it = await metCopy(site, 'READY');
    const { machine, job, path } = it;
    const { admin } = machine.qemu;
    await site.restart('SIGKILL', machine.disk.domain, async () => {
      const held: EntryBody = { entry: 'guest-held', because: 'a test' };
      const journal = join(site.stateFolder, 'jobs', `${job.id}.jsonl`);
      await goOnWith(journal, { entry: 'pivot-requested', pauseGuest: 'ALWAYS' }, held);
      await admin.execute('stop');
      await seeAs(sight, site, machine);
    });
    expect(await it.ended()).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: path } });
    await eventually('the guest runs', async () =>
      (await admin.execute<{ status: string }>('query-status')).status === 'running' ? true : undefined,
    );
  });
});
