/** The manual pages: roff without an error, and everything that the commands themselves say. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { needs } from '../support/means.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../support/service/service.ts';

const FOLDER = join(REPOSITORY, 'dist/blockjobd');

async function help(script: string, ...words: readonly string[]): Promise<string> {
  return (await run(process.execPath, [join(FOLDER, script), ...words, '--help'])).stdout;
}

/** The entries below a heading of a help text, by their first word. */
function listed(text: string, heading: string): readonly string[] {
  const [, below = ''] = text.split(`\n${heading}:\n`);
  const [block = ''] = below.split('\n\n');
  return [...block.matchAll(/^ {2}(?:-\w, )?([\w-]+)/gm)].map(([, word = '']) => word);
}

describe.skipIf(needs('packages'))('the manual page', () => {
  test.each([
    ['blockjobd', 'src/main.js'],
    ['blockjob', 'bin/blockjob'],
  ])('of %s is valid roff, and has each command with its options', async (name, script) => {
    const page = join(FOLDER, 'man', `${name}.1`);
    const checked = await run('groff', ['-ww', '-man', '-Tutf8', '-z', page]);
    expect(checked.stdout + checked.stderr).toBe('');
    const source = (await readFile(page, 'utf8')).replaceAll('\\-', '-');
    const commands = listed(await help(script), 'Commands').filter((word) => word !== 'help');
    expect(commands.length).toBeGreaterThan(2);
    for (const command of commands) {
      const [, section = ''] = source.split(`\n.SS ${command}\n`);
      const options = listed(await help(script, command), 'Options').filter((word) => word !== '--help');
      for (const option of options) expect(section.split('\n.SS ')[0]).toContain(`\\fB${option}`);
    }
  });
});
