/**
 * A person who may write below an allowed folder replaces a folder by a link while copies are started: no file is made
 * outside.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openFilesOf } from '../../src/agent/host/open-files.ts';
import { present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { byId, refusalOf } from '../support/service/caller.ts';

const STARTS = 10;
const OF_THE_HOST = 'of the host';
/** Each answers for the object that was at the path at that moment. */
const REFUSALS =
  /^(PATH_REPLACED|PATH_DIFFERS_IN_QEMU|DESTINATION_(NOT_ALLOWED|MISSING|EXISTS)|ACCESS_DENIED|REFUSED_BY_QEMU)$/;

/** Exchanges the folder and a link of its name that leads outside, as fast as it can, until its standard input ends. */
const SWAPPING = `
  const { renameSync, symlinkSync, unlinkSync } = require('node:fs');
  const [folder, outside] = process.argv.slice(1);
  let goesOn = true;
  process.stdin.on('end', () => { goesOn = false; }).resume();
  (function swap() {
    for (let times = 0; times < 20; times += 1) {
      renameSync(folder, folder + '~');
      symlinkSync(outside, folder);
      unlinkSync(folder);
      renameSync(folder + '~', folder);
    }
    if (goesOn) setImmediate(swap);
  })();`;

function swapping(folder: string, outside: string): AsyncDisposable {
  const child = spawn(process.execPath, ['-e', SWAPPING, folder, outside], { stdio: ['pipe', 'ignore', 'inherit'] });
  const exited = once(child, 'exit');
  return {
    [Symbol.asyncDispose]: async () => {
      child.stdin?.end();
      await exited;
    },
  };
}

/** Files in folders that are not allowed. */
async function outsideOf(names: readonly string[]) {
  const path = await mkdtemp('/var/tmp/bj-outside-');
  for (const name of names) await writeFile(join(path, name), OF_THE_HOST);
  return { path, [Symbol.asyncDispose]: async () => await rm(path, { recursive: true }) };
}

async function started(site: Site, { disk }: Machine, path: string): Promise<string | undefined> {
  try {
    const { id } = await site.service.startCopy({ disk, destination: { target: { $case: 'file', value: path } } });
    await site.service.abort({ job: byId(id) });
    return undefined;
  } catch (error) {
    return refusalOf(error).reason;
  }
}

describe.skipIf(needs('qemu'))('a folder that is a link in every second moment', () => {
  test.each(['there is nothing', 'there are files of these names'])(
    'leads no copy out of the allowed folders: %s outside',
    async (what) => {
      const names = Array.from({ length: STARTS }, (_, at) => `new${at}`);
      await using outside = await outsideOf(what.includes('nothing') ? [] : names);
      await using site = await Site.open();
      await using machine = await site.machine();
      const folder = join(machine.dir, 'of-a-tenant');
      await mkdir(folder);
      const before = await readdir(outside.path);
      const [begun, refusals]: [string[], string[]] = [[], []];
      {
        await using _swapping = swapping(folder, outside.path);
        for (const name of names) {
          const reason = await started(site, machine, join(folder, name));
          if (reason === undefined) begun.push(name);
          else refusals.push(reason);
        }
      }
      expect(refusals.filter((reason) => !REFUSALS.test(reason))).toEqual([]);
      expect(await readdir(outside.path)).toEqual(before);
      for (const name of before) expect(await readFile(join(outside.path, name), 'utf8')).toBe(OF_THE_HOST);
      // A refused start leaves nothing; a cancelled job may not have been able to remove its files.
      expect(begun).toEqual(expect.arrayContaining(await readdir(folder)));
      const opened = present(openFilesOf(present(machine.qemu.pid)));
      expect(opened.files.filter(({ name }) => name.startsWith(outside.path))).toEqual([]);
      expect(await site.service.listLeftovers()).toEqual([]);
    },
  );
});
