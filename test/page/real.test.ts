/** The page of a real service, in a real Chromium: it shows what a real QEMU does, as it happens. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OnNoSpace } from '../../generated/blockjob/v1/job.ts';
import { eventually } from '../support/checks.ts';
import { DocPage } from '../support/doc-page.ts';
import { NbdServer } from '../support/images/nbd-server.ts';
import { needs } from '../support/means.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { byId } from '../support/service/caller.ts';
import { Chromium, type Shown } from './browser.ts';
import { MIB, Site } from './site.ts';

async function percentIn(shown: Shown, selector: string): Promise<number> {
  return await shown.page.$eval(selector, (bar) => (bar as HTMLProgressElement).value);
}

/** The contents of a plot, as one text. */
async function pictureIn(shown: Shown, selector: string): Promise<string> {
  return await shown.page.$eval(selector, (canvas) => (canvas as HTMLCanvasElement).toDataURL());
}

describe.skipIf(needs('browser', 'qemu'))('the page of a real service', () => {
  let chromium: Chromium;

  beforeAll(async () => {
    chromium = await Chromium.start();
  });

  afterAll(async () => {
    await chromium[Symbol.asyncDispose]();
  });

  test('shows a copy from its start to the pivot, with nobody touching it', async () => {
    await using site = await Site.open();
    await using shown = await chromium.open(site.url);
    await shown.shows('No data is being moved');
    await shown.shows('web1');
    const to = join(site.dir, 'web1-new.qcow2');
    const job = await site.copy(to, MIB / 2);
    await shown.shows(/web1 virtio0.* Running/, 'table.running');
    const before = await percentIn(shown, 'table.running progress');
    await eventually('the bar moves', async () =>
      (await percentIn(shown, 'table.running progress')) > before ? true : undefined,
    );
    await shown.page.click('table.running a');
    await shown.shows('Copy of web1 virtio0', 'h1');
    await shown.shows(/Limit 512 KiB\/s/);
    await shown.shows(`accepted: copy ${site.top} to ${to}`, 'table.journal');
    const plots = ['[data-plot=speed] canvas', '[data-plot=left] canvas'];
    const drawn = await Promise.all(plots.map(async (plot) => await pictureIn(shown, plot)));
    for (const [index, plot] of plots.entries()) {
      await eventually(`${plot} moves`, async () =>
        (await pictureIn(shown, plot)) === drawn[index] ? undefined : true,
      );
    }

    await shown.page.goto(`${site.url}#/domains/web1`);
    await shown.shows(/Active image snap2\.qcow2.* The guest writes here/, '.chain');
    expect(await shown.texts('.chain .file')).toEqual(['snap2.qcow2', 'snap1.qcow2', 'base.qcow2']);
    await shown.shows(to, '.beside');

    await shown.page.goto(`${site.url}#/jobs/${job.id}`);
    await site.service.setSpeed(job.id, 0n);
    await shown.shows('Ready: both sides are equal');
    await shown.shows('Mirrored');
    await site.service.abort({ job: byId(job.id), pivot: true });
    await shown.shows('Completed', '.title');
    await shown.shows(`The guest writes to ${to}`);
    await shown.shows(`Start the VM next time with ${to}`);
    await shown.shows(`${site.top} the running guest has left it`, '.facts');
    await shown.shows(/QEMU.s block graph/, '.evidence');
    const { revision } = await site.service.getInfo(job.id);
    await eventually('all entries', async () => {
      const rows = await shown.texts('table.journal tbody tr');
      return rows.length === Number(revision) || undefined;
    });

    await shown.page.goto(`${site.url}#/`);
    await shown.shows('No job is running.');
    await shown.shows(/web1 virtio0.* Completed .*web1-new\.qcow2 Complete/, 'table.ended');
    await shown.page.goto(`${site.url}#/domains/web1`);
    await shown.shows('web1-new.qcow2', '.chain .live');
    expect(shown.complaints).toEqual([]);
  });

  test('says that it is cut off while the service is down, and continues by itself', async () => {
    await using site = await Site.open();
    const job = await site.copy(join(site.dir, 'copy.qcow2'), MIB / 2);
    await using shown = await chromium.open(`${site.url}#/jobs/${job.id}`);
    await shown.shows(/accepted/, 'table.journal');
    await using list = await chromium.open(site.url);
    await list.shows('Running', 'table.running');
    const { length: seen } = await shown.texts('table.journal tbody tr');
    await site.restart(async () => {
      await list.shows('Disconnected from the service since');
      await list.shows('Disconnected', '#connection');
      // The last state is still there, and marked as old.
      await list.shows('Running', 'table.running');
      await list.shows(/ was [\d.]+ %, /, 'table.running');
      expect(await list.texts('table.running td.number')).toEqual(['–', '–', '–']);
    });
    await list.shows(/^Live$/, '#connection');
    await list.shows(/ [\d.]+ MiB of [\d.]+ MiB/, 'table.running');
    expect(await list.text()).not.toContain('Disconnected');
    await shown.page.bringToFront();
    const before = await percentIn(shown, '.far progress');
    await eventually('it moves again', async () =>
      (await percentIn(shown, '.far progress')) > before ? true : undefined,
    );
    await site.service.setSpeed(job.id, 0n);
    await shown.shows('Ready: both sides are equal');
    await site.service.abort({ job: byId(job.id), pivot: true });
    await shown.shows('Completed', '.title');
    // Each entry once, those before the restart and those after it.
    const journal = await shown.texts('table.journal tbody tr td:first-child');
    expect(journal.map(Number)).toEqual(journal.map((_, index) => index + 1));
    expect(journal.length).toBeGreaterThan(seen);
    expect([...shown.complaints, ...list.complaints]).toEqual([]);
  });

  test('shows why a copy failed, and what to do', async () => {
    await using site = await Site.open();
    // Behind the 16 MiB that QEMU copies at once: a copy that fails in its first moments is refused.
    const fault = { atByte: 48 * MIB, errno: 'ENOSPC' } as const;
    await using full = await NbdServer.start({ folder: site.dir, sizeBytes: 64 * MIB, over: 'unix', fault });
    await site.qemu.admin.hmpQemuIo('virtio0', `write ${fault.atByte} ${MIB}`);
    await using shown = await chromium.open(site.url);
    await shown.shows('No data is being moved');
    const copy = await site.service.startCopy({
      disk: { domain: site.name, disk: 'virtio0' },
      destination: { target: { $case: 'nbd', value: full.target } },
      onNoSpace: OnNoSpace.ON_NO_SPACE_FAIL,
      bandwidthBytesPerSecond: 65_536n,
    });
    await site.service.setSpeed(copy.id, 0n);
    await shown.shows(/web1 virtio0.* Failed no space left/, 'table.ended');
    await shown.page.click('table.ended a');
    await shown.shows('NO_SPACE', '.notice .error');
    await shown.shows('The guest still runs on its source', '.notice');
    await shown.shows('Free space', '.notice');
    await shown.shows(`The guest writes to ${site.top}`);
    const found = await shown.accessibility();
    expect(found.map(({ id, nodes }) => [id, nodes[0]?.html])).toEqual([]);
    expect(shown.complaints).toEqual([]);
  });

  test('offers the calls that curl can make, as docs/page.md says', async () => {
    await using site = await Site.open();
    const job = await site.copy(join(site.dir, 'copy.qcow2'), MIB / 2);
    const [command = ''] = new DocPage('page.md').section('How it is made').commands;
    const { stdout } = await run('bash', ['-c', command.replace('http://127.0.0.1:50080/', site.url)]);
    expect(JSON.parse(stdout)).toMatchObject({ jobs: [{ id: job.id, kind: 'JOB_KIND_COPY' }] });
  });

  test('shows the name of a hostile domain as text', async () => {
    const name = '<img src=x onerror=document.title=1>';
    await using site = await Site.open({ name });
    await using shown = await chromium.open(site.url);
    await shown.shows(name, 'table.domains');
    await shown.page.click('table.domains a');
    await shown.shows(name, 'h1');
    await shown.shows('snap2.qcow2', '.chain');
    expect(await shown.page.$$('main img')).toHaveLength(0);
    expect(await shown.page.title()).toContain('blockjobd');
    expect(shown.complaints).toEqual([]);
  });
});
