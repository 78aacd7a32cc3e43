/** The chain of a reused image, seen by an attacker: no file outside the allowed folders may ever be opened. */
import { link, lstat, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { knownAs } from '../../../../src/agent/files/files.ts';
import { ownChain, usableQcow2 } from '../../../../src/agent/files/own-chain.ts';
import { readHeader } from '../../../../src/agent/files/place.ts';
import type { Image } from '../../../../src/core/disk/chain.ts';
import { BlockJobError } from '../../../../src/core/errors.ts';
import type { KnownFile } from '../../../../src/core/job/step.ts';
import type { Backing } from '../../../../src/core/plans/copy-ends.ts';
import { anImage } from '../../../support/images/image.ts';
import { qcow2 } from '../../../support/images/qcow2-header.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

/** An allowed folder, one that is not allowed, and a chain of the disk in the first one. */
async function world() {
  const dir = await testDir();
  const [pool, secret] = [join(dir.path, 'pool'), join(dir.path, 'secret')];
  await mkdir(pool);
  await mkdir(secret);
  await writeFile(join(secret, 'key'), 'the key of the host');
  await writeFile(join(dir.path, 'snap1'), qcow2());
  await writeFile(join(dir.path, 'top'), qcow2());
  await writeFile(join(dir.path, 'plain'), 'as the guest wrote it');
  await writeFile(join(dir.path, 'box'), qcow2());
  const source: readonly Image[] = [
    anImage({ node: 'top', path: join(dir.path, 'top') }),
    anImage({ node: 'snap1', path: join(dir.path, 'snap1') }),
    anImage({ node: 'plain', path: join(dir.path, 'plain'), format: 'file' }),
    anImage({ node: 'part', path: join(dir.path, 'box'), isPart: true }),
  ];
  const options = { allowed: { folders: [pool], nbdServers: [] }, source };
  const image = async (name: string, backingFile: string, backingFormat = 'qcow2') =>
    await writeFile(join(pool, name), qcow2({ backingFile, backingFormat }));
  return {
    pool,
    secret,
    image,
    /** The chain below `name`, or why there is none. */
    async below(name: string): Promise<Backing | string | undefined> {
      try {
        const path = join(pool, name);
        return await ownChain(path, usableQcow2(path, await readHeader(path)), options);
      } catch (error) {
        if (!(error instanceof BlockJobError)) throw error;
        return error.reason;
      }
    },
    [Symbol.asyncDispose]: async () => await dir[Symbol.asyncDispose](),
  };
}

async function known(path: string): Promise<KnownFile> {
  return knownAs(path, await lstat(path, { bigint: true }));
}

describe("a destination's own chain", () => {
  it('is opened image by image, each as the header above it says, with relative names from its folder', async () => {
    await using here = await world();
    await mkdir(join(here.pool, 'sub'));
    await here.image('top', 'sub/mid');
    await writeFile(join(here.pool, 'sub', 'mid'), qcow2({ backingFile: '../base', backingFormat: 'raw' }));
    await writeFile(join(here.pool, 'base'), qcow2({ backingFile: `${here.secret}/key`, backingFormat: 'raw' }));
    // The base is raw because its overlay says so: the data of its guest is not looked at.
    expect(await here.below('top')).toEqual({
      is: 'IMAGE',
      path: join(here.pool, 'sub', 'mid'),
      file: await known(join(here.pool, 'sub', 'mid')),
      driver: 'qcow2',
      storage: 'file',
      below: {
        is: 'IMAGE',
        path: join(here.pool, 'base'),
        file: await known(join(here.pool, 'base')),
        driver: 'raw',
        storage: 'file',
        below: undefined,
      },
    });
  });

  it('shares no image that is a part of a file: its name means the whole file, which may be anything', async () => {
    await using here = await world();
    await here.image('over-part', '../box');
    expect(await here.below('over-part')).toBe('DESTINATION_NOT_ALLOWED');
  });

  it('ends at an image without a backing file, and at an image of the disk itself, which is shared', async () => {
    await using here = await world();
    await here.image('flat', '');
    expect(await here.below('flat')).toBeUndefined();
    await here.image('top', '../snap1');
    expect(await here.below('top')).toEqual({ is: 'NODE', node: 'snap1' });
    await link(join(here.pool, '..', 'snap1'), join(here.pool, 'hard'));
    await here.image('over-hard', 'hard');
    expect(await here.below('over-hard')).toEqual({ is: 'NODE', node: 'snap1' });
    await here.image('over-active', '../top');
    expect(await here.below('over-active')).toBe('DESTINATION_IN_USE');
  });

  it('ends at an image of the disk only if its header gives that image its format', async () => {
    await using here = await world();
    await here.image('as-raw', '../snap1', 'raw');
    expect(await here.below('as-raw')).toBe('CHAIN_UNUSABLE');
    await here.image('middle', '../snap1', 'raw');
    await here.image('over-middle', 'middle');
    expect(await here.below('over-middle')).toBe('CHAIN_UNUSABLE');
    await here.image('unsaid', '../snap1', '');
    expect(await here.below('unsaid')).toEqual({ is: 'NODE', node: 'snap1' });
    // A disk may be on the file itself, without a node of a format.
    await here.image('plain', '../plain', 'raw');
    expect(await here.below('plain')).toEqual({ is: 'NODE', node: 'plain' });
  });

  it.each([
    ['a full path', (secret: string) => join(secret, 'key')],
    ['a way up', () => '../secret/key'],
    ['a way up and down', () => '../pool/../secret/key'],
    ['json', (secret: string) => `json:{"driver":"raw","file":{"driver":"file","filename":"${secret}/key"}}`],
    ['a protocol', (secret: string) => `file:${secret}/key`],
    ['a network name', () => 'nbd://127.0.0.1/x'],
    ['a file that is not there', () => '../secret/nothing'],
  ])('never leads out of the allowed folders: %s', async (_name, name) => {
    await using here = await world();
    await here.image('top', name(here.secret), 'raw');
    expect(await here.below('top')).toBe('DESTINATION_NOT_ALLOWED');
  });

  it('never leads out by a symbolic link, to a file or on the way', async () => {
    await using here = await world();
    await symlink(join(here.secret, 'key'), join(here.pool, 'link'));
    await symlink(here.secret, join(here.pool, 'folder'));
    await here.image('by-link', 'link', 'raw');
    await here.image('by-folder', 'folder/key', 'raw');
    expect([await here.below('by-link'), await here.below('by-folder')]).toEqual([
      'DESTINATION_NOT_ALLOWED',
      'DESTINATION_NOT_ALLOWED',
    ]);
  });

  it('is refused if an image is missing, if its format is not given, or if the format is not one that is read', async () => {
    await using here = await world();
    await writeFile(join(here.pool, 'base'), qcow2());
    await here.image('missing', 'nothing');
    await here.image('no-format', 'base', '');
    await here.image('vmdk', 'base', 'vmdk');
    await here.image('nbd', 'base', 'nbd');
    await here.image('file', 'base', 'file');
    await mkdir(join(here.pool, 'directory'));
    await here.image('folder', 'directory', 'raw');
    expect(await here.below('missing')).toBe('DESTINATION_MISSING');
    for (const name of ['no-format', 'vmdk', 'nbd', 'file', 'folder'])
      expect([name, await here.below(name)]).toEqual([name, 'CHAIN_UNUSABLE']);
  });

  it('is refused if an image of it is not a plain qcow2, or leads back to itself', async () => {
    await using here = await world();
    const bad = { external: qcow2({ incompatible: 4n }), encrypted: qcow2({ crypt: 2 }), raw: Buffer.alloc(512) };
    for (const [name, bytes] of Object.entries(bad)) {
      await writeFile(join(here.pool, name), bytes);
      await here.image(`over-${name}`, name);
      expect([name, await here.below(`over-${name}`)]).toEqual([name, 'FORMAT_UNKNOWN']);
    }
    await here.image('a', 'b');
    await here.image('b', 'a');
    await here.image('self', './self');
    expect([await here.below('a'), await here.below('self')]).toEqual(['CHAIN_UNUSABLE', 'CHAIN_UNUSABLE']);
  });

  it('with more images than QEMU supports is refused', async () => {
    await using here = await world();
    for (let index = 0; index < 203; index += 1) await here.image(`i${index}`, index === 202 ? '' : `i${index + 1}`);
    expect(await here.below('i0')).toBe('CHAIN_UNUSABLE');
    expect(await here.below('i10')).toMatchObject({ is: 'IMAGE' });
  });
});
