/** The units of deploy/systemd: the verdict of systemd, and the options that they pass to the service. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { toldBy } from '../support/fake-qemu/told.ts';
import { needs } from '../support/means.ts';
import { run, testDir } from '../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../support/service/service.ts';

const UNITS = ['blockjobd-agent.service', 'blockjobd-gateway.service'] as const;
/** In tenths, as systemd counts it: 0 is closed, 100 open. The rest is the network, and V8's compiler. */
const MOST_EXPOSED = 16;

async function textOf(unit: string): Promise<string> {
  return await readFile(join(REPOSITORY, 'deploy/systemd', unit), 'utf8');
}

/** The lines of a setting, in order; a line that ends with a backslash goes on. */
function settings(text: string, name: string): readonly string[] {
  const lines = text.replaceAll('\\\n', ' ').split('\n');
  return lines.flatMap((line) => (line.startsWith(`${name}=`) ? [line.slice(name.length + 1)] : []));
}

describe.skipIf(needs('systemd'))('systemd', () => {
  test.each(UNITS)('accepts %s, and rates it as closed', async (unit) => {
    await using dir = await testDir();
    const path = join(dir.path, unit);
    // systemd looks for the programs, and this machine may have its Node elsewhere.
    await writeFile(path, (await textOf(unit)).replaceAll('/usr/bin/node', process.execPath));
    const verified = await run('systemd-analyze', ['verify', path]);
    expect(verified.stdout + verified.stderr).toBe('');
    const judged = ['security', '--offline=true', '--no-pager', `--threshold=${MOST_EXPOSED}`, path];
    await run('systemd-analyze', judged);
  });
});

describe.each(UNITS)('%s', (unit) => {
  test('gives the service valid options', async () => {
    const site: Readonly<Record<string, readonly string[]>> = {
      agent: ['--etcd', 'https://etcd1:2379', '--advertise', 'h1:50051', '--gateway', 'spiffe://site/gateway'],
      gateway: ['--etcd', 'https://etcd1:2379'],
    };
    const [node, main, mode = '', ...args] = settings(await textOf(unit), 'ExecStart')
      .join(' ')
      .split(/\s+/);
    expect([node, main]).toEqual(['/usr/bin/node', '/opt/blockjobd/src/main.js']);
    expect(args.at(-1)).toBe('$OPTIONS');
    const told = await toldBy([mode, ...args.slice(0, -1), ...(site[mode] ?? [])]);
    expect(told).toMatchObject({ mode, tls: { certificateFile: '/etc/blockjobd/tls/cert.pem' } });
    // Otherwise systemd kills it while calls are being answered.
    expect(told.drainMs).toBeLessThan(
      1000 * Number.parseInt(settings(await textOf(unit), 'TimeoutStopSec').join(), 10),
    );
  });

  test('does not depend on other units that start and stop', async () => {
    const text = await textOf(unit);
    const bonds = ['PartOf', 'BindsTo', 'Requires', 'Requisite', 'Conflicts', 'StopPropagatedFrom'];
    for (const bond of bonds) expect(settings(text, bond)).toEqual([]);
  });
});

test('an agent whose name is taken is not started again', async () => {
  const [status] = settings(await textOf('blockjobd-agent.service'), 'RestartPreventExitStatus');
  expect(await readFile(join(REPOSITORY, 'src/main.ts'), 'utf8')).toContain(`const NEVER_RESTART = ${status};`);
});

test('an agent that dies is restarted at once, however often: a guest that it holds waits for it', async () => {
  const text = await textOf('blockjobd-agent.service');
  const [restart, after, limit] = ['Restart', 'RestartSec', 'StartLimitIntervalSec'].map((name) =>
    settings(text, name),
  );
  expect([restart, limit]).toEqual([['always'], ['0']]);
  const [, ms] = /^(\d+)ms$/.exec(after?.join() ?? '') ?? [];
  expect(Number(ms)).toBeLessThanOrEqual(100);
});
