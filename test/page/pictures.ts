/** Takes the pictures of docs/page.md again: `node test/page/pictures.ts`, as root, on a machine without /srv/vm. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { byId } from '../support/service/caller.ts';
import { REPOSITORY } from '../support/service/service.ts';
import { Chromium } from './browser.ts';
import { MIB, Site } from './site.ts';

const FOLDER = '/srv/vm';
const IMAGES = join(REPOSITORY, 'docs/images');

await mkdir(FOLDER);
try {
  await using site = await Site.open({ folder: FOLDER });
  await using chromium = await Chromium.start();
  const job = await site.copy(join(FOLDER, 'web1-new.qcow2'), MIB / 2);
  await using shown = await chromium.open(`${site.url}#/jobs/${job.id}`, { width: 1200, height: 740 });
  await shown.shows('Remaining');
  // A guest that writes, and people who change their minds.
  for (let second = 0; second < 40; second += 1) {
    if (second % 10 === 9) await site.service.setSpeed(job.id, BigInt((MIB / 8) * (3 + (second % 3))));
    const offset = ((second * 7) % 60) * MIB;
    await site.qemu.admin.hmpQemuIo('virtio0', `write -P ${second + 1} ${offset} ${(second % 4) * 64 + 64}k`);
    await sleep(1000);
  }
  await mkdir(IMAGES, { recursive: true });
  await shown.page.screenshot({ path: join(IMAGES, 'page-copy.png') });
  await shown.page.goto(`${site.url}#/domains/web1`);
  await shown.shows('web1-new.qcow2', '.beside');
  await shown.page.screenshot({ path: join(IMAGES, 'page-disk.png') });
  await site.service.abort({ job: byId(job.id), force: true });
} finally {
  await rm(FOLDER, { recursive: true });
}
