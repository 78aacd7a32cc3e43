/** The images of a chain by their names, for a service that may read less than its QEMU. */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { foundByName } from '../../../../src/agent/files/found-by-name.ts';
import type { VirtualMachine } from '../../../../src/agent/qemu/virtual-machine.ts';
import { BlockJobError } from '../../../../src/core/errors.ts';
import { anImage } from '../../../support/images/image.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

const NOBODY = 65534;
/** It has no visible open file. */
const machine = { name: 'vm', openFiles: () => ({ root: '', files: [] }) } as const;

it.skipIf(process.geteuid?.() !== 0)('is not said to be another where nobody may look but QEMU', async () => {
  await using dir = await testDir();
  await chmod(dir.path, 0o755);
  await mkdir(join(dir.path, 'shut'), { mode: 0o700 });
  const said = async (folder: string, isRelinked = false) => {
    const image = anImage({ path: join(dir.path, folder, 'base') });
    await writeFile(image.path, '');
    process.seteuid?.(NOBODY);
    try {
      const asked = { machine: machine as unknown as VirtualMachine, ...(isRelinked && { relinked: image }) };
      return await foundByName([image], asked);
    } catch (error) {
      return error instanceof BlockJobError ? error.reason : error;
    } finally {
      process.seteuid?.(0);
    }
  };
  expect(await said('shut')).toEqual([]);
  // The service must be able to read its header back.
  expect(await said('shut', true)).toBe('PATH_DIFFERS_IN_QEMU');
  expect(await said('')).toBe('PATH_DIFFERS_IN_QEMU');
});
