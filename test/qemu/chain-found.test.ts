/**
 * When a job is done, the disk is opened by its headers alone. So the images that stay in its chain must be at their
 * names, at the start and at the end, down to the base; and the headers must lead to the same images as the guest's
 * disk.
 */
import { copyFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag, RebaseFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { ImageFormat, type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { monitorIn, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { byId, errorOf, refused } from '../support/service/caller.ts';

const SLOWLY = 65_536n;
const FORMATS = { formats: ['qcow2', 'qcow2', 'qcow2', 'qcow2'] } as const;

let site: Site;

interface Begun {
  /** Ends it, by a pivot if it has one. */
  readonly end: () => Promise<Job>;
  /** Ends it in the same way, which must not be a success. */
  readonly noSuccess: () => Promise<void>;
}

/** The start of each job, in a chain of four; 0 is its base. */
const JOBS: readonly [what: string, begin: (machine: Machine) => Promise<Begun>][] = [
  [
    'a pull',
    async ({ disk, chain }) => {
      const flags = [RebaseFlag.REBASE_FLAG_BANDWIDTH_BYTES];
      const base = present(chain[1]).path;
      const job = await site.service.rebase({ disk, base, flags, bandwidth: SLOWLY });
      return endsItself(job);
    },
  ],
  [
    'a commit of lower images',
    async ({ disk, chain }) => {
      const [base, top] = [present(chain[1]).path, present(chain[2]).path];
      const flags = [CommitFlag.COMMIT_FLAG_BANDWIDTH_BYTES];
      const job = await site.service.commit({ disk, top, base, flags, bandwidth: SLOWLY });
      return endsItself(job);
    },
  ],
  [
    'a commit of the active image',
    async ({ disk, chain }) => {
      const flags = [CommitFlag.COMMIT_FLAG_ACTIVE];
      const job = await site.service.commit({ disk, base: present(chain[1]).path, flags });
      return pivots(job);
    },
  ],
  [
    'a shallow copy',
    async ({ disk, dir }) => {
      const target = { $case: 'file', value: join(dir, 'copy') } as const;
      const job = await site.service.startCopy({ disk, destination: { target }, shallow: true });
      return pivots(job);
    },
  ],
  [
    'a shallow copy into an image with a chain of its own',
    async ({ disk, dir, chain }) => {
      const [base, top] = [join(dir, 'own-base'), join(dir, 'own')];
      await run('qemu-img', ['convert', '-U', '-O', 'qcow2', present(chain[2]).path, base]);
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', base, top]);
      const destination = { target: { $case: 'file', value: top } } as const;
      const job = await site.service.startCopy({ disk, destination, shallow: true, reuseExternal: true });
      return pivots(job);
    },
  ],
];

function endsItself(job: Job): Begun {
  const end = async () => await faster(job);
  const noSuccess = async () => {
    const ended = await end();
    expect(errorOf(ended)).toMatchObject({ reason: 'DESTINATION_MOVED' });
    expect(ended).toMatchObject({ state: Job_State.STATE_FAILED, outcome: { safeToDelete: [] } });
  };
  return { end, noSuccess };
}

function pivots(job: Job): Begun {
  const end = async () => await pivot(job);
  const noSuccess = async () => {
    expect(await refused(end())).toMatchObject({ reason: 'DESTINATION_MOVED' });
    await site.service.abort({ job: byId(job.id), force: true });
  };
  return { end, noSuccess };
}

async function faster(job: Job): Promise<Job> {
  await site.service.setSpeed(job.id, 0n);
  return await site.ended(job);
}

async function pivot({ id }: Job): Promise<Job> {
  await site.service.until(id, 'STATE_READY');
  return await site.service.abort({ job: byId(id), pivot: true });
}

async function replace(path: string): Promise<void> {
  await copyFile(path, `${path}.copy`);
  await rename(path, `${path}.aside`);
  await rename(`${path}.copy`, path);
}

describe.skipIf(needs('qemu'))('the chain by which a disk is found', () => {
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  describe.each(JOBS)('of %s', (what, begin) => {
    const lowest = ({ chain, dir }: Machine) => (what.includes('own') ? join(dir, 'own-base') : present(chain[0]).path);

    test.each(['renamed', 'replaced by a copy', 'in a folder that was renamed'])(
      'ends at its lowest image: %s while the job runs, which is not a success',
      async (act) => {
        await using machine = await site.machine(FORMATS);
        const { noSuccess } = await begin(machine);
        const path = lowest(machine);
        if (act === 'renamed') await rename(path, `${path}.aside`);
        else if (act === 'replaced by a copy') await replace(path);
        else await rename(dirname(path), `${dirname(path)}.aside`);
        await noSuccess();
        const { inserted } = await machine.qemu.admin.block('disk0');
        expect(inserted?.image.filename).toContain(machine.top.path);
        if (act.startsWith('in a folder')) await rename(`${dirname(path)}.aside`, dirname(path));
      },
    );

    test('has lost a name before: no job begins', async () => {
      await using machine = await site.machine(FORMATS);
      const path = present(machine.chain[0]).path;
      if (what.includes('own')) return;
      await rename(path, `${path}.aside`);
      expect(await refused(begin(machine))).toMatchObject({ reason: 'PATH_DIFFERS_IN_QEMU', metadata: { path } });
      await rename(`${path}.aside`, path);
      await (await begin(machine)).end();
    });
  });
});

function node(name: string, filename: string, backing: string | null): readonly string[] {
  const options = { driver: 'qcow2', 'node-name': name, file: { driver: 'file', filename }, backing };
  return ['-blockdev', JSON.stringify(options)];
}

/** QEMU has top → middle → base, and a header says otherwise. */
const HEADERS: readonly [what: string, make: (base: string, middle: string) => readonly (readonly string[])[]][] = [
  ['another file', (base, middle) => [['rebase', '-u', '-F', 'qcow2', '-b', `${base}.other`, middle]]],
  ['no backing file', (_base, middle) => [['rebase', '-u', '-b', '', middle]]],
  ['another format', (base, middle) => [['rebase', '-u', '-F', 'raw', '-b', base, middle]]],
  ['one below the last', (base) => [['rebase', '-u', '-F', 'qcow2', '-b', `${base}.other`, base]]],
];

describe.skipIf(needs('qemu'))('a header that says', () => {
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  test.each(HEADERS)(
    '%s than QEMU has: that disk is copied whole, and nothing else is done',
    async (_what, commands) => {
      await using dir = await testDir();
      const [base, middle, top] = ['base', 'middle', 'top'].map((name) => join(dir.path, name));
      if (base === undefined || middle === undefined || top === undefined) throw new Error('no names');
      const create = ['create', '-q', '-f', 'qcow2'];
      for (const path of [base, `${base}.other`]) await run('qemu-img', [...create, path, '1M']);
      await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 1M', base]);
      await run('qemu-img', [...create, '-F', 'qcow2', '-b', base, middle]);
      await run('qemu-img', [...create, '-F', 'qcow2', '-b', middle, top]);
      for (const command of commands(base, middle)) await run('qemu-img', [...command]);
      const name = `m${dir.path.slice(-6)}`;
      await using qemu = await startQemu({
        style: 'blockdev',
        name,
        disks: [],
        extraArgs: [
          ...monitorIn(site.sockets, name),
          ...node('b', base, null),
          ...node('m', middle, 'b'),
          ...node('t', top, 'm'),
          '-device',
          'virtio-blk-pci,id=disk0,drive=t',
        ],
      });
      await site.service.domainUp(name);
      const disk = { domain: name, disk: 'disk0' };
      const { service } = site;
      const destination = { target: { $case: 'file', value: join(dir.path, 'copy') } } as const;
      const starts = [
        async () => await service.startCopy({ disk, destination, shallow: true }),
        async () => await service.rebase({ disk, base: middle }),
        async () => await service.commit({ disk, base: middle, flags: [CommitFlag.COMMIT_FLAG_ACTIVE] }),
      ];
      for (const start of starts) expect(await refused(start())).toMatchObject({ reason: 'HEADER_DIFFERS' });
      const { id } = await service.startCopy({
        disk,
        destination: { ...destination, format: ImageFormat.IMAGE_FORMAT_QCOW2 },
      });
      expect((await pivot({ id } as Job)).state).toBe(Job_State.STATE_COMPLETED);
      await qemu.admin.hmpQemuIo('disk0', `read -P 7 0 ${MIB}`);
    },
  );
});
