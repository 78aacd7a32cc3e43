/**
 * Every set of Rebase's flags, on every kind of source, into every kind of destination: the verdict is that of the
 * seed's table, a refused call changes no byte and no node, and an accepted one copies the right data.
 */
/* oxlint-disable vitest/no-conditional-expect */
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RebaseFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { graphOf, hashOf, listing, present } from '../support/checks.ts';
import { LoopDevice } from '../support/images/loop-device.ts';
import { needs } from '../support/means.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { compareImages, run } from '../support/real-qemu/qemu.ts';
import { byId, refusalOf } from '../support/service/caller.ts';

const SIZE = 2 * MIB;
const NAMES = ['SHALLOW', 'REUSE_EXT', 'COPY_RAW', 'COPY', 'RELATIVE', 'COPY_DEV', 'BANDWIDTH_BYTES'] as const;
type Name = (typeof NAMES)[number];
const SETS: readonly ReadonlySet<Name>[] = Array.from(
  { length: 128 },
  (_, bits) => new Set(NAMES.filter((_name, bit) => (bits & (1 << bit)) !== 0)),
);

const SOURCES = { 'qcow2 chain': ['qcow2', 'qcow2', 'qcow2'], 'single qcow2': ['qcow2'], raw: ['raw'] } as const;
type Source = keyof typeof SOURCES;

interface Kind {
  readonly name: string;
  readonly is: 'nothing' | 'folder' | 'device' | 'qcow2' | 'raw' | 'empty';
  readonly bytes: number;
  /** A backing file of its own, by a relative name. */
  readonly backed?: true;
}
const KINDS: readonly Kind[] = [
  { name: 'absent', is: 'nothing', bytes: 0 },
  { name: 'empty file', is: 'empty', bytes: 0 },
  { name: 'qcow2', is: 'qcow2', bytes: SIZE },
  { name: 'raw', is: 'raw', bytes: SIZE },
  { name: 'qcow2 with a relative backing file', is: 'qcow2', bytes: SIZE, backed: true },
  { name: 'smaller qcow2', is: 'qcow2', bytes: SIZE / 2 },
  { name: 'smaller raw', is: 'raw', bytes: SIZE / 2 },
  { name: 'larger qcow2', is: 'qcow2', bytes: SIZE * 2 },
  { name: 'larger raw', is: 'raw', bytes: SIZE * 2 },
  { name: 'directory', is: 'folder', bytes: 0 },
  { name: 'block device', is: 'device', bytes: SIZE },
  { name: 'larger block device', is: 'device', bytes: SIZE * 2 },
];

/** The rules of the contract, written down a second time, from the seed's table. */
function verdict(flags: ReadonlySet<Name>, source: Source, { is, bytes, backed }: Kind): string {
  const has = (name: Name) => flags.has(name);
  const isRaw = source === 'raw';
  if (!has('COPY')) {
    const copyOnly = (['SHALLOW', 'REUSE_EXT', 'COPY_RAW', 'COPY_DEV'] as const).some(has);
    return copyOnly ? 'FLAG_REQUIRES_COPY' : 'BASE_NOT_IN_CHAIN';
  }
  const isNew = has('SHALLOW') && !has('REUSE_EXT') && !has('COPY_RAW');
  if (has('RELATIVE') && !(isNew && source === 'qcow2 chain')) return 'RELATIVE_UNSUPPORTED';
  if (has('SHALLOW') && has('COPY_RAW') && !has('REUSE_EXT') && !isRaw) return 'SHALLOW_INTO_RAW';
  if (is === 'folder') return 'FIELD_INVALID';
  const sized = bytes === SIZE ? 'accepted' : 'SIZE_MISMATCH';
  if (is === 'device') {
    if (has('REUSE_EXT')) return has('COPY_RAW') ? sized : 'FORMAT_UNKNOWN';
    return has('COPY_RAW') || isRaw ? sized : 'DESTINATION_EXISTS';
  }
  if (is === 'nothing') return has('REUSE_EXT') || has('COPY_DEV') ? 'DESTINATION_MISSING' : 'accepted';
  if (is !== 'empty' && !has('REUSE_EXT')) return 'DESTINATION_EXISTS';
  if (has('COPY_DEV')) return 'NOT_A_BLOCK_DEVICE';
  if (!has('REUSE_EXT')) return 'accepted';
  // An image that holds nothing, and has no backing image, does not show the contents below the active image.
  const isUnlike = has('SHALLOW') && source === 'qcow2 chain' && backed === undefined && sized === 'accepted';
  const like = isUnlike ? 'REUSED_UNLIKE' : sized;
  // A qcow2 file taken for raw has another number of bytes, and an empty one none.
  if (has('COPY_RAW')) return is === 'raw' ? like : 'SIZE_MISMATCH';
  return is === 'qcow2' ? like : 'FORMAT_UNKNOWN';
}

describe.skipIf(needs('qemu', 'loop'))('every flag set of Rebase', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open(['/dev']);
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  test('the table has each combination, and some of each verdict', () => {
    const cases = SETS.flatMap((flags) =>
      KINDS.flatMap((kind) => (Object.keys(SOURCES) as Source[]).map((source) => verdict(flags, source, kind))),
    );
    expect(cases).toHaveLength(128 * 12 * 3);
    expect(new Set(cases).size).toBe(12);
  });

  const CASES = (Object.keys(SOURCES) as Source[]).flatMap((source) => KINDS.map((kind) => ({ source, kind })));
  test.each(CASES)('$source to $kind.name', async ({ source, kind }) => {
    await using machine = await site.machine({ formats: SOURCES[source], sizeBytes: SIZE, relative: true });
    const { disk, dir, qemu, chain, top } = machine;
    const folder = join(dir, 'dst');
    await mkdir(folder);
    using device = kind.is === 'device' ? await LoopDevice.make(dir, kind.bytes) : undefined;
    const path = device?.path ?? join(folder, 'copy');
    await make(kind, path, machine);
    let before = await state();
    const hashes = async () => await Promise.all(chain.map((image) => hashOf(image.path)));
    const sources = await hashes();
    const wrong: string[] = [];
    let refused: string[] = [];
    for (const flags of SETS) {
      const expected = verdict(flags, source, kind);
      if (expected === 'accepted') await nothingChanged();
      const request = { disk, base: path, flags: [...flags].map((name) => RebaseFlag[`REBASE_FLAG_${name}`]) };
      const answer = await site.service.rebase(request).catch((error: unknown) => refusalOf(error).reason);
      const got = typeof answer === 'string' ? answer : 'accepted';
      if (got !== expected) wrong.push(`${[...flags].join('|')}: ${got}, not ${expected}`);
      if (typeof answer === 'string') {
        refused.push([...flags].join('|'));
      } else {
        wrong.push(...(await finished(answer.id, flags)));
        await make(kind, path, machine);
        before = await state();
      }
    }
    await nothingChanged();
    expect(wrong).toEqual([]);
    expect(await hashes()).toEqual(sources);

    /**
     * Everything that a call could change: every file with its times, every node and edge, every job, the device's
     * bytes.
     */
    async function state(): Promise<unknown> {
      const jobs = await site.service.listJobs({ domain: disk.domain });
      const bytes = device === undefined ? '' : await hashOf(path);
      return [await listing(folder), await graphOf(qemu.admin), jobs.jobs.length, bytes];
    }

    /** The calls that were refused since the last look have changed nothing. A look costs more than such a call. */
    async function nothingChanged(): Promise<void> {
      if (refused.length === 0) return;
      if (JSON.stringify(await state()) !== JSON.stringify(before)) wrong.push(`changed something: ${refused.join()}`);
      refused = [];
    }

    /** The problems of a copy that was begun. */
    async function finished(id: string, flags: ReadonlySet<Name>): Promise<readonly string[]> {
      await site.service.until(id, 'STATE_READY');
      const job = await site.service.abort({ job: byId(id) });
      if (job.state !== Job_State.STATE_CANCELLED) return [`${[...flags].join('|')} ended in ${job.state}`];
      const format = job.destination?.format === 1 ? 'raw' : 'qcow2';
      // A shallow copy onto a device that does not show the contents below the source promises nothing.
      const isPromised = !(flags.has('SHALLOW') && flags.has('REUSE_EXT') && source === 'qcow2 chain') || kind.backed;
      const { identical, text } = await compareImages(top.path, top.format, path, format, { live: true });
      return isPromised && !identical ? [`${[...flags].join('|')}: ${text}`] : [];
    }
  });
});

/** The files that have to exist before a call. */
async function make({ is, bytes, backed }: Kind, path: string, { chain }: Machine): Promise<void> {
  if (is === 'device') {
    await run('dd', ['if=/dev/zero', `of=${path}`, `bs=${bytes}`, 'count=1', 'conv=fsync,notrunc', 'status=none']);
    return;
  }
  await rm(path, { recursive: true, force: true });
  if (is === 'folder') await mkdir(path);
  if (is === 'empty') await writeFile(path, '');
  if (is === 'raw') await run('qemu-img', ['create', '-qfraw', path, String(bytes)]);
  if (is !== 'qcow2') return;
  const backing = backed ? present(chain[Math.max(0, chain.length - 2)]) : undefined;
  // Beside it are the files that the name of its backing file needs: the images below the source's active one.
  for (const image of backed ? chain.slice(0, Math.max(1, chain.length - 1)) : []) {
    await copyFile(image.path, join(path, '..', basename(image.path)));
  }
  const over = backing === undefined ? [] : ['-F', backing.format, '-b', basename(backing.path)];
  await run('qemu-img', ['create', '-q', '-fqcow2', ...over, path, String(bytes)]);
}
