/**
 * The promises of README to a new user: on a fresh Debian with Node, npm, make and git, in a clone of this commit,
 * `make demo` does all the set-up, and proves that the guest has lost nothing. The Debian package is tried in the same
 * roots.
 *
 * NEWCOMER_RELEASES names the releases, in words; `make newcomer` and `make test-versions` set it.
 */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MANIFEST, PACKAGES } from '../../build/places.ts';
import { present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../support/service/service.ts';

const RELEASES = (process.env['NEWCOMER_RELEASES'] ?? 'bookworm trixie').split(' ');
const LIMIT_MS = 900_000;
const HOME = '/root/blockjobd';
/** README: "Two minutes". */
const DEMO_SECONDS = 120;

describe.skipIf(needs('fresh-root', 'packages'))('on a fresh', () => {
  describe.each(RELEASES)('Debian %s', (release) => {
    let folder: string;
    let root: string;

    async function inside(...command: readonly string[]): Promise<string> {
      const args = [root, ...command];
      return (await run(join(import.meta.dirname, 'inside.sh'), args, { timeoutMs: LIMIT_MS })).stdout;
    }

    function tell(lines: string): void {
      process.stdout.write(lines.replace(/^(?=.)/gm, `${release}: `));
    }

    beforeAll(async () => {
      // Not below /tmp, which may not allow programs or devices.
      folder = await mkdtemp('/var/tmp/bj-newcomer-');
      root = join(folder, 'root');
      const make = join(import.meta.dirname, 'fresh-root.sh');
      tell((await run(make, [release, root], { timeoutMs: LIMIT_MS })).stdout);
      await run('git', ['-c', 'safe.directory=*', 'clone', '--quiet', `file://${REPOSITORY}`, join(root, HOME)]);
    }, LIMIT_MS);

    afterAll(async () => {
      await rm(folder, { recursive: true, force: true });
    }, LIMIT_MS);

    test('`make demo` in a clone of this commit proves that nothing is lost', { timeout: LIMIT_MS }, async () => {
      const begun = performance.now();
      const said = await inside('make', '-C', HOME, 'demo');
      const seconds = Math.round((performance.now() - begun) / 1000);
      const proved = Number(/^PROVED in (\d+) s/m.exec(said)?.[1]);
      tell(`set-up by make demo ${seconds - proved}\ndemo ${proved}\n`);
      expect(proved).toBeLessThan(DEMO_SECONDS);
      // The second time no setup is needed.
      const again = performance.now();
      expect(await inside('make', '-C', HOME, 'demo')).toMatch(/^PROVED in/m);
      const againSeconds = Math.round((performance.now() - again) / 1000);
      tell(`make demo again ${againSeconds}\n`);
      expect(againSeconds).toBeLessThan(DEMO_SECONDS);
    });

    test('the Debian package is installed, upgraded while a copy runs, and purged', { timeout: LIMIT_MS }, async () => {
      const now = join(PACKAGES, present((await readdir(PACKAGES)).find((name) => name.endsWith('.deb'))));
      const packed = join(folder, 'before');
      await run('dpkg-deb', ['--raw-extract', now, packed]);
      const control = join(packed, 'DEBIAN/control');
      await writeFile(control, (await readFile(control, 'utf8')).replace(/^Version: .*/m, 'Version: 0.0.9'));
      await writeFile(
        join(packed, 'usr/lib/blockjobd/only-before'),
        'this version has a file that the next one has not',
      );
      const before = join(root, 'root/blockjobd_0.0.9.deb');
      await run('dpkg-deb', ['--root-owner-group', '-Znone', '--build', packed, before]);
      await run('cp', [now, join(import.meta.dirname, 'use-package.sh'), join(root, 'root')]);
      const said = await inside('/root/use-package.sh', '/root/blockjobd_0.0.9.deb', `/root/${basename(now)}`);
      expect(said.trimEnd().split('\n')).toEqual([
        'before: 0.0.9',
        `now: ${MANIFEST.version}, blockjobd`,
        'upgrade: 1 restart',
        'upgrade: a file that only the earlier version had is gone',
        "upgrade: all files are the package's",
        'the copy that began before has been pivoted after',
        'the copy is right',
        'purged',
      ]);
    });
  });
});
