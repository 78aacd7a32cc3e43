/** The settings of V8's heap, in processes of their own: they last. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const HEAP = join(import.meta.dirname, '../../../src/lib/heap.ts');
const MIB = 1024 * 1024;
/** Without threads the size is the same in each run: pages that they have not freed yet count, too. */
const ALONE = ['--single-threaded'];

/** The size of the young generation before and after much lasting data was made, in MiB. */
function youngMib(setting: string): { readonly before: number; readonly after: number } {
  const script = `
    import { getHeapSpaceStatistics } from 'node:v8';
    import { keepYoungSpace, withSmallYoungSpace } from ${JSON.stringify(HEAP)};
    const young = () => getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space').space_size;
    const kept = [];
    const make = async () => { for (let at = 0; at < 600_000; at += 1) kept.push({ at }); };
    const before = young();
    ${setting}
    console.log(JSON.stringify({ before: before / ${MIB}, after: young() / ${MIB} }), kept.length > 0);
  `;
  const { stdout } = spawnSync(process.execPath, [...ALONE, '--input-type=module', '-e', script], { encoding: 'utf8' });
  return JSON.parse(stdout.slice(0, stdout.lastIndexOf('}') + 1)) as { before: number; after: number };
}

it('the young generation grows with lasting data, unless it is kept', () => {
  const free = youngMib('await make();');
  expect(free.after).toBeGreaterThanOrEqual(4 * free.before);
  const kept = youngMib('keepYoungSpace(); await make();');
  expect(kept.after).toBeLessThanOrEqual(free.after / 4);
});

it('the young generation stays kept after other work that has kept it, too', () => {
  const kept = youngMib('keepYoungSpace(); await make();');
  const keptTwice = youngMib('keepYoungSpace(); await withSmallYoungSpace(async () => {}); await make();');
  expect(keptTwice.after).toBeLessThanOrEqual(kept.after);
});
