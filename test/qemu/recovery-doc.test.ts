/** Each command of docs/recovery.md and its pages is run word for word, in the case that it is for. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DestinationContent, Job_State, PauseGuest } from '../../generated/blockjob/v1/job.ts';
import { writeHold } from '../../src/agent/journal/hold-file.ts';
import { present } from '../support/checks.ts';
import { DocPage, fencedIn } from '../support/doc-page.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { stop } from '../support/real-qemu/while-stopped.ts';
import { byId } from '../support/service/caller.ts';
import { REPOSITORY } from '../support/service/service.ts';

const [ABBREVIATIONS = '', ...LOOKS] = new DocPage('recovery.md').commands;
const READS = new DocPage('recovery/journal.md').commands;
const STUCK = new DocPage('recovery/stuck-job.md').commands;
const PAUSED = new DocPage('recovery/paused-guest.md').commands;
const FOLDER = new DocPage('recovery/state-folder.md').commands;
const FINDS = new DocPage('recovery/unresolved.md').commands;
const LEFTOVERS = new DocPage('recovery/leftovers.md').commands;

/** The output of a block of commands, on both streams, and its exit status. */
interface Shown {
  readonly text: string;
  readonly code: number;
}

let site: Site;

/** A copy of the machine's disk, as in the page. */
interface Case {
  readonly machine: Machine;
  readonly job: string;
}

function copyIn({ dir }: Machine): string {
  return join(dir, 'web1-new.qcow2');
}

async function copied(machine: Machine): Promise<Case> {
  const target = { $case: 'file', value: copyIn(machine) } as const;
  const { id } = await site.service.startCopy({ disk: machine.disk, destination: { target } });
  await site.service.until(id, 'STATE_READY');
  return { machine, job: id };
}

/** Runs a block with the names of this case instead of those of the page. */
async function shown(commands: string | undefined, { machine, job }: Case): Promise<Shown> {
  const names: Readonly<Record<string, string>> = {
    '127.0.0.1:50051': site.service.address,
    '/var/lib/blockjobd': site.stateFolder,
    '/var/lib/images/web1-new.qcow2': copyIn(machine),
    '/var/lib/images/web1.qcow2': machine.top.path,
    '/var/lib/images': machine.dir,
    '/run/qemu-people/web1.sock': machine.qemu.qmpPath,
    bj0123456789abcdef: job,
    '"web1"': `"${machine.disk.domain}"`,
  };
  let script = `${ABBREVIATIONS}\n${present(commands, 'a block of commands')}`;
  for (const [name, ours] of Object.entries(names)) script = script.replaceAll(name, ours);
  expect(script).not.toMatch(/\/var\/|\/run\/|50051|web1[^-]/);
  const before = `set -o pipefail; PATH=${join(REPOSITORY, 'node_modules/.bin')}:$PATH`;
  const { code, stdout, stderr } = await run('bash', ['-c', `${before}\n${script}`], { accept: [0, 1, 2, 3] });
  return { code, text: stdout + stderr };
}

describe.skipIf(needs('qemu', 'by-hand'))('the commands of docs/recovery.md', () => {
  beforeAll(async () => {
    site = await Site.open([], ['--listen', '127.0.0.1:0']);
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test('are all on the pages that are run here', () => {
    const all = [READS, STUCK, PAUSED, FOLDER, FINDS, LEFTOVERS];
    expect([LOOKS, ...all].map(({ length }) => length)).toEqual([5, 2, 2, 2, 1, 5, 3]);
    const pages = readdirSync(join(REPOSITORY, 'docs/recovery')).map((name) => new DocPage(`recovery/${name}`));
    expect(pages.flatMap(({ commands }) => commands).toSorted()).toEqual(all.flat().toSorted());
  });

  test('look: jobs, one job, its VM, QEMU itself, and the users of an image', async () => {
    await using machine = await site.machine();
    const here = await copied(machine);
    const { domain } = machine.disk;
    const [jobs, job, vm, qemu, lock] = LOOKS;
    expect(await shown(jobs, here)).toMatchObject({
      code: 0,
      text: contains(`${here.job} ${domain} disk0 JOB_KIND_COPY STATE_READY DESTINATION_CONTENT_MIRRORED`),
    });
    expect(answer(await shown(job, here))).toMatchObject({
      state: 'STATE_READY',
      sourcePath: machine.top.path,
      destination: { file: copyIn(machine) },
      outcome: { guestWritesTo: machine.top.path, destinationContent: 'DESTINATION_CONTENT_MIRRORED' },
    });
    expect(answer(await shown(vm, here))).toEqual({
      guestState: 'GUEST_STATE_RUNNING',
      qemuPid: machine.qemu.pid,
      disks: [{ name: 'disk0', chain: machine.chain.map(({ path }) => path).toReversed() }],
    });
    const [status, copies, disk] = (await shown(qemu, here)).text.split('\n').map((line) => JSON.parse(line || '{}'));
    expect(status).toMatchObject({ return: { status: 'running' } });
    expect(copies).toMatchObject({ return: [{ device: here.job, ready: true }] });
    expect(disk).toEqual([contains('disk0'), contains(machine.top.path)]);
    expect(await shown(lock, here)).toMatchObject({ code: 1, text: contains('Failed to get shared "write" lock') });
  });

  test('a QEMU that was killed in a pivot: its journal, and the checks that a person can do', async () => {
    await using machine = await site.machine();
    const here = await copied(machine);
    // A stopped QEMU gets the pivot, and answers nothing.
    await stop(machine.qemu.pid);
    await site.service.abort({ job: byId(here.job), pivot: true, returnImmediately: true });
    process.kill(machine.qemu.pid, 'SIGKILL');
    await machine.qemu.exited;
    for await (const _event of site.service.watch(here.job));
    expect(await site.service.getInfo(here.job)).toMatchObject({
      state: Job_State.STATE_UNRESOLVED,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_UNKNOWN },
    });

    const [whose, entries] = READS;
    const journal = join(site.stateFolder, 'jobs', `${here.job}.jsonl`);
    expect(await shown(whose, here)).toEqual({ code: 0, text: `${journal}\n` });
    const [told = ''] = fencedIn(new DocPage('recovery/journal.md').text, 'text');
    const withoutRemarks = told.split('\n').map((line) => line.replace(/ *←.*/, ''));
    const lines = (await shown(entries, here)).text.trimEnd().split('\n');
    expect(lines.map(timeless)).toEqual(withoutRemarks.map(timeless));

    const [chain, check, compare, times, look] = FINDS;
    expect(await shown(LOOKS.at(-1), here)).toMatchObject({ code: 0, text: contains(`image: ${machine.top.path}`) });
    const images = machine.chain.map(({ path }) => path).toReversed();
    const inChain = (await shown(chain, here)).text.matchAll(/^image: (.*)$/gm);
    expect([...inChain].map(([, path]) => path)).toEqual(images);
    const checked = await shown(check, here);
    expect(checked.text.match(/No errors were found|leaked clusters/g)).toHaveLength(2);
    expect(await shown(compare, here)).toEqual({ code: 0, text: 'Images are identical.\n' });
    expect((await shown(times, here)).text).toMatch(
      new RegExp(String.raw`^20\S+ \S+ \S+ ${machine.top.path}\n20\S+ \S+ \S+ ${copyIn(machine)}\n$`),
    );
    expect(await shown(look, here)).toEqual({ code: 0, text: '' });
    expect(existsSync(join(machine.dir, 'look.qcow2'))).toBe(true);

    const [list, plan, remove] = LEFTOVERS;
    const why = contains('the guest may have moved to it');
    const found = [`file:${here.job}`, 'KIND_FILE', copyIn(machine), contains('UNRESOLVED'), why];
    expect(answer(await shown(list, here))).toEqual(found);
    for (const refused of [plan, remove]) {
      expect(answer(await shown(refused, here))).toMatchObject([null, { message: why }]);
    }
    expect(existsSync(copyIn(machine))).toBe(true);
  });

  test('help: a job that waits, a copy that is cancelled, and its leftovers', async () => {
    await using machine = await site.machine();
    const here = await copied(machine);
    const [resume, force] = STUCK;
    expect(answer(await shown(resume, here))).toEqual({ state: 'STATE_READY', pauseReason: null });
    expect(answer(await shown(force, here))).toEqual({
      state: 'STATE_CANCELLED',
      outcome: 'DESTINATION_CONTENT_STALE',
    });
    const [list, plan, remove] = LEFTOVERS;
    expect((await shown(list, here)).text).toContain(`["file:${here.job}","KIND_FILE","${copyIn(machine)}"`);
    expect(answer(await shown(plan, here))).toEqual([true, null]);
    expect(existsSync(copyIn(machine))).toBe(true);
    expect(answer(await shown(remove, here))).toEqual([true, null]);
    expect(existsSync(copyIn(machine))).toBe(false);
  });

  test('help: the owners of the jobs in QEMU', async () => {
    await using machine = await site.machine();
    const here = await copied(machine);
    expect(await shown(FOLDER[0], here)).toEqual({ code: 0, text: `${here.job.slice(2, 8)} ${here.job}\n` });
  });

  test('help: a guest that is paused, by this service or by another program', async () => {
    await using machine = await site.machine();
    const here = await copied(machine);
    const [held, go] = PAUSED;
    await site.service.abort({ job: byId(here.job), pivot: true, pauseGuest: PauseGuest.PAUSE_GUEST_ALWAYS });
    expect(await shown(held, here)).toEqual({ code: 1, text: '' });
    // As after the death of a service in the hold.
    const vm = { domain: machine.disk.domain, uuid: undefined, socket: '/qmp.sock', process: undefined };
    const hold = { version: 1, boot: undefined, vm, holders: [], owesCont: true, pausedJobs: [] } as const;
    await writeHold(join(site.stateFolder, 'holds'), hold);
    expect(await shown(held, here)).toEqual({ code: 0, text: contains('"owesCont":true') });
    await machine.qemu.admin.execute('stop');
    expect(answer(await shown(go, here))).toEqual({ return: {} });
    expect(await machine.qemu.admin.execute('query-status')).toMatchObject({ status: 'running' });
  });
});

function contains(text: string): unknown {
  return expect.stringContaining(text);
}

/** The output of jq: one value. */
function answer({ text, code }: Shown): unknown {
  expect(code, text).toBe(0);
  return JSON.parse(text);
}

function timeless(line: string): string {
  return line.trimEnd().replace(/\d\d:\d\d:\d\d/, 'TIME');
}
