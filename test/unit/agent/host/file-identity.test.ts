/** The object behind a name: the same file by many names, and devices with their parts. */
import { link, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { deviceNumber } from '../../../../src/agent/host/device-number.ts';
import {
  type FileIdentity,
  fileNamesOf,
  identify,
  identityOf,
  overlaps,
} from '../../../../src/agent/host/file-identity.ts';
import { present } from '../../../support/checks.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

/** A made-up /sys with devices of these names, numbered from 0. */
async function sysWith(root: string, devices: Readonly<Record<string, Readonly<Record<string, string>>>>) {
  await mkdir(join(root, 'dev/block'), { recursive: true });
  for (const [at, [name, files]] of Object.entries(devices).entries()) {
    const folder = join(root, 'devices', name);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'dev'), `8:${at}\n`);
    await symlink(folder, join(root, 'dev/block', `8:${at}`));
    for (const [file, content] of Object.entries(files)) {
      await mkdir(dirname(join(folder, file)), { recursive: true });
      if (file.startsWith('slaves/')) await symlink(join(root, 'devices', content), join(folder, file));
      else await writeFile(join(folder, file), content);
    }
  }
  return async (name: string): Promise<FileIdentity> => {
    const rdev = BigInt(deviceNumber(8, Object.keys(devices).indexOf(name)));
    const stats = { isBlockDevice: () => true, rdev } as Parameters<typeof identityOf>[0];
    return await identityOf(stats, root);
  };
}

describe('a name', () => {
  it('is looked up as by a process with another root', async () => {
    await using dir = await testDir();
    const root = join(dir.path, 'root');
    await mkdir(join(root, 'etc'), { recursive: true });
    await writeFile(join(root, 'x'), '');
    await link(join(root, 'x'), join(root, 'etc/hard'));
    await symlink('/x', join(root, 'etc/absolute'));
    await symlink('../../../x', join(root, 'etc/relative'));
    await symlink('loop', join(root, 'loop'));
    const file = present(await identify(join(root, 'x')));
    for (const name of ['/x', '/etc/hard', '/etc/absolute', '/etc/relative', '/../x', '/etc/./../x']) {
      expect([name, (await identify(name, root))?.key]).toEqual([name, file.key]);
    }
    for (const name of ['/loop', '/etc/gone', '/etc', 'x', 'nbd://host/x']) {
      const found = await identify(name, root);
      expect([name, found !== undefined && overlaps(found, file)]).toEqual([name, false]);
    }
  });
});

describe('a device', () => {
  it('overlaps with its parts, and with the devices that it is a part of, and with nothing else', async () => {
    await using dir = await testDir();
    const image = join(dir.path, 'image');
    await writeFile(image, '');
    const of = await sysWith(dir.path, {
      sda: {},
      'sda/sda1': { partition: '1' },
      'sda/sda2': { partition: '2' },
      sdb: {},
      // A logical volume on two disks, and another one on one of them.
      'dm-0': { 'slaves/sda1': 'sda/sda1', 'slaves/sdb': 'sdb' },
      'dm-1': { 'slaves/sdb': 'sdb' },
      loop0: { 'loop/backing_file': `${image}\n` },
      'loop0/loop0p1': { partition: '1' },
      loop1: { 'loop/backing_file': `${image}\n` },
      loop2: { 'loop/backing_file': `${image} (deleted)\n` },
    });
    const file = present(await identify(image));
    const expectOverlap = async (one: string, other: string | FileIdentity, is: boolean) => {
      const [a, b] = [await of(one), typeof other === 'string' ? await of(other) : other];
      expect([one, other, overlaps(a, b), overlaps(b, a)]).toEqual([one, other, is, is]);
    };
    await expectOverlap('sda/sda1', 'sda', true);
    await expectOverlap('sda/sda1', 'sda/sda2', false);
    await expectOverlap('dm-0', 'sda', true);
    await expectOverlap('dm-0', 'sda/sda2', false);
    await expectOverlap('dm-0', 'dm-1', false);
    await expectOverlap('dm-1', 'sdb', true);
    await expectOverlap('sda', 'sdb', false);
    await expectOverlap('loop0', file, true);
    await expectOverlap('loop0', 'loop1', true);
    await expectOverlap('loop0/loop0p1', file, true);
    await expectOverlap('loop0/loop0p1', 'loop1', true);
    await expectOverlap('loop2', file, false);
  });

  it('has the same numbers for a file below it as after a boot', async () => {
    await using dir = await testDir();
    const image = join(dir.path, 'image');
    await writeFile(image, '');
    const of = await sysWith(dir.path, {
      loop0: { 'loop/backing_file': `${image}\n` },
      'loop0/loop0p1': { partition: '1' },
      'dm-0': { 'slaves/loop0': 'loop0' },
    });
    const { born } = present(await identify(image));
    expect(born).toMatch(/^inode \d+ of \d{19}$/);
    expect((await of('loop0')).born).toBe(born);
    for (const name of ['loop0/loop0p1', 'dm-0'])
      expect([name, [...(await of(name)).keys]]).toContainEqual(expect.arrayContaining([born]));
    await link(image, join(dir.path, 'other'));
    expect(await fileNamesOf(join(dir.path, 'other'))).toMatchObject({ born });
  });

  it('about which the kernel reports nothing is itself alone', async () => {
    await using dir = await testDir();
    const of = await sysWith(dir.path, { sda: {}, sdb: {} });
    const nowhere = join(dir.path, 'nothing');
    const stats = { isBlockDevice: () => true, rdev: BigInt(deviceNumber(8, 0)) } as Parameters<typeof identityOf>[0];
    const unknown = await identityOf(stats, nowhere);
    expect([overlaps(unknown, await of('sda')), overlaps(unknown, await of('sdb'))]).toEqual([true, false]);
  });
});
