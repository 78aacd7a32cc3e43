/** The visible facts about an existing destination. */
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { holdsNothing } from '../../../../src/agent/starts/reused.ts';
import { qcow2 } from '../../../support/images/qcow2-header.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

const TABLE_AT = 65_536;
const ENTRIES = 300_000;

describe('an image that holds nothing', () => {
  it('is a qcow2 with a table of tables that is complete, and all zeroes to its end', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'image');
    const header = qcow2({ tableAt: BigInt(TABLE_AT), tableEntries: ENTRIES });
    const table = new Uint8Array(ENTRIES * 8);
    const holds = async (bytes: Uint8Array, format = 'qcow2') => {
      await writeFile(path, bytes);
      return !(await holdsNothing(path, format));
    };
    const image = (tail: Uint8Array) => Buffer.concat([header, tail]);
    expect(await holds(image(table))).toBe(false);
    for (const at of [0, 1_048_576, table.length - 1]) {
      const used = table.slice();
      used[at] = 1;
      expect([at, await holds(image(used))]).toEqual([at, true]);
    }
    // A table that is cut off, and one that no QEMU would open, prove nothing.
    expect(await holds(image(table.subarray(8)))).toBe(true);
    expect(await holds(image(new Uint8Array()))).toBe(true);
    expect(await holds(qcow2({ tableAt: 65_536n, tableEntries: 5_000_000 }))).toBe(true);
    expect(await holds(image(table), 'vdi')).toBe(true);
    expect(await holds(new Uint8Array(table.length))).toBe(true);
  });

  it('is a raw file of which at most the first zeroes use space', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'image');
    await using file = await open(path, 'w+');
    await file.truncate(1_048_576);
    expect(await holdsNothing(path, 'raw')).toBe(true);
    await file.write(new Uint8Array(4096), 0, 4096, 0);
    await file.sync();
    expect(await holdsNothing(path, 'raw')).toBe(true);
    await file.write(Uint8Array.of(1), 0, 1, 4095);
    await file.sync();
    expect(await holdsNothing(path, 'raw')).toBe(false);
    await file.write(new Uint8Array(8192), 0, 8192, 0);
    await file.sync();
    expect(await holdsNothing(path, 'raw')).toBe(false);
    expect(await holdsNothing(join(dir.path, 'nothing'), 'raw')).toBe(false);
    expect(await holdsNothing(dir.path, 'raw')).toBe(false);
  });
});
