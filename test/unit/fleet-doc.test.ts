/** docs/fleet.md: its examples are understood. */
import { expect, test } from 'vitest';
import { Policy } from '../../src/access/policy.ts';
import { readStaticFile } from '../../src/fleet/directory/static-file.ts';
import { present } from '../support/checks.ts';
import { DocPage, fencedIn } from '../support/doc-page.ts';

const page = new DocPage('fleet.md');

test('the policy and the file of hosts are understood', () => {
  const [policy] = /^\{[^]*?^\}/m.exec(present(page.section('4. Gateways').commands[0])) ?? [];
  expect(Policy.read(present(policy))).toBeInstanceOf(Policy);
  const [hosts] = fencedIn(page.section('A file of hosts').text, 'json');
  expect(readStaticFile(present(hosts))).toMatchObject({
    hosts: [{ name: 'host-a', identity: 'spiffe://site/agent/host-a' }, { name: 'host-b' }],
    listed: [{ name: 'db1' }],
  });
});
