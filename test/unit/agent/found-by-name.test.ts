/** The images of a chain by their names, for a service that may look at less than its QEMU. */
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { anImage } from '../../support/image.ts';
import { testDir } from '../../support/qemu.ts';

const AS_NOBODY = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, '--input-type=module', '-e'];
const MODULE = join(import.meta.dirname, '../../../src/agent/found-by-name.ts');

/** What is said of a chain of this one image, of which QEMU has no file open that we see. */
const LOOK = `
  const { foundByName } = await import(process.argv[1]);
  const machine = { name: 'vm', openFiles: async () => ({ root: '', files: [] }) };
  const image = JSON.parse(process.argv[2]);
  const options = { machine, ...(process.argv[3] === 'relinked' && { relinked: image }) };
  const said = await foundByName([image], options).catch(({ reason }) => reason);
  process.stdout.write(JSON.stringify(said));`;

it.skipIf(process.geteuid?.() !== 0)('is not said to be another where nobody may look but QEMU', async () => {
  await using dir = await testDir();
  await chmod(dir.path, 0o755);
  await mkdir(join(dir.path, 'shut'), { mode: 0o700 });
  const say = async (folder: string, ...more: readonly string[]) => {
    const path = join(dir.path, folder, 'base');
    await writeFile(path, '');
    const image = JSON.stringify({ ...anImage({ path }), backingFile: '' });
    const { stdout, stderr } = spawnSync('setpriv', [...AS_NOBODY, LOOK, MODULE, image, ...more], { encoding: 'utf8' });
    return stdout === '' ? stderr : (JSON.parse(stdout) as unknown);
  };
  expect(await say('shut')).toEqual([]);
  // Its header has to be read back here.
  expect(await say('shut', 'relinked')).toBe('PATH_DIFFERS_IN_QEMU');
  expect(await say('')).toBe('PATH_DIFFERS_IN_QEMU');
});
