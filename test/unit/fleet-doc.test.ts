/** docs/fleet.md: its options are those that there are, and its examples are understood. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Policy } from '../../src/access/policy.ts';
import { readStaticFile } from '../../src/fleet/static-file.ts';
import { present } from '../support/checks.ts';
import { DocPage, fencedIn } from '../support/doc-page.ts';
import { REPOSITORY } from '../support/service.ts';

const page = new DocPage('fleet.md');

function optionsIn(tables: readonly (readonly (readonly string[])[])[]): readonly string[] {
  return tables.flat().flatMap(([option = '']) => [...option.matchAll(/--[a-z-]+/g)].map(([name]) => name));
}

function optionsOf(mode: string): readonly string[] {
  const help = execFileSync(process.execPath, [join(REPOSITORY, 'src/main.ts'), mode, '--help'], { encoding: 'utf8' });
  return [...help.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, name = '']) => name).filter((name) => name !== '--help');
}

test('the options of agent and gateway are those of the command line', () => {
  const [both = [], agent = [], gateway = []] = page.section('Options').tables;
  const host = optionsIn(new DocPage('operating.md').section('Configuration').tables);
  expect(new Set(optionsIn([both, gateway]))).toEqual(new Set(optionsOf('gateway')));
  expect(new Set([...optionsIn([both, agent]), ...host])).toEqual(new Set(optionsOf('agent')));
  expect(new Set(host)).toEqual(new Set(optionsOf('serve')));
});

test('the policy and the file of hosts are understood', () => {
  const [policy] = /^\{[^]*?^\}/m.exec(present(page.section('4. Gateways').commands[0])) ?? [];
  expect(Policy.read(present(policy))).toBeInstanceOf(Policy);
  const [hosts] = fencedIn(page.section('A file of hosts').text, 'json');
  expect(readStaticFile(present(hosts))).toMatchObject({
    hosts: [{ name: 'host-a', identity: 'spiffe://site/agent/host-a' }, { name: 'host-b' }],
    listed: [{ name: 'db1' }],
  });
});
