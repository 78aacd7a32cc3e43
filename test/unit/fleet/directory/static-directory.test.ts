import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import type { Host, LocalDomain } from '../../../../src/fleet/directory/directory.ts';
import { place, StaticDirectory } from '../../../../src/fleet/directory/static-directory.ts';
import { readStaticFile } from '../../../../src/fleet/directory/static-file.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { until } from '../../../support/until.ts';

const UUID = '0A0B0C0D-0000-4000-8000-00000000000F';

describe('the file of a static directory', () => {
  it('names hosts, and optionally domains', () => {
    const text = JSON.stringify({
      hosts: { a: { address: 'a:1', identity: 'spiffe://site/a', domains: ['web', UUID] }, b: { address: 'b:1' } },
    });
    expect(readStaticFile(text)).toEqual({
      hosts: [
        { name: 'a', address: 'a:1', identity: 'spiffe://site/a', version: '', instance: '' },
        { name: 'b', address: 'b:1', identity: '', version: '', instance: '' },
      ],
      listed: [
        { id: 'a/web', name: 'web', host: 'a', epoch: 0n },
        { id: UUID.toLowerCase(), name: UUID, host: 'a', epoch: 0n },
      ],
    });
  });

  it.each([
    ['{', /not JSON/],
    ['[]', /"hosts"/],
    ['{"hosts": {}}', /no hosts/],
    ['{"hosts": {"a": {"address": "a:1"}}, "host": 1}', /"host", which means nothing/],
    ['{"hosts": {"a": "a:1"}}', /Host a must be an object/],
    ['{"hosts": {"a": {}}}', /Host a needs an "address"/],
    ['{"hosts": {"": {"address": "a:1"}}}', /no name/],
    ['{"hosts": {"a": {"address": "a:1", "adress": "x"}}}', /"adress", which means nothing/],
    ['{"hosts": {"a": {"address": "a:1", "identity": 1}}}', /"identity" of host a/],
    ['{"hosts": {"a": {"address": "a:1", "domains": [1]}}}', /"domains" of host a/],
  ])('%s is refused with a reason', (text, reason) => {
    expect(readStaticFile(text)).toMatch(reason);
  });
});

const on = (host: string) => [{ id: '1', name: 'web', host, epoch: 0n }];

describe('the place of a domain', () => {
  const says = { id: '1', name: 'web' };

  it('is the listed host until that host has answered', () => {
    expect(place(new Map(), on('a'), new Map())).toEqual(on('a'));
    expect(place(new Map([['a', []]]), on('a'), new Map())).toEqual([]);
    expect(place(new Map([['b', [says]]]), on('a'), new Map([['1', 'a']]))).toEqual(on('a'));
  });

  it('stays with the first host while two have it, and then goes to the other', () => {
    const both = new Map([
      ['a', [says]],
      ['b', [says]],
    ] as const);
    expect(place(both, [], new Map())).toEqual(on('a'));
    expect(place(both, [], new Map([['1', 'a']]))).toEqual(on('a'));
    expect(place(both, [], new Map([['1', 'b']]))).toEqual(on('b'));
    expect(
      place(
        new Map([
          ['a', []],
          ['b', [says]],
        ]),
        [],
        new Map([['1', 'a']]),
      ),
    ).toEqual(on('b'));
  });
});

const fileOf = (...names: readonly string[]) =>
  JSON.stringify({ hosts: Object.fromEntries(names.map((name) => [name, { address: `${name}:1` }])) });

/** Hosts that say what they run, or nothing at all. */
function hosts(running: Record<string, LocalDomain[] | undefined>) {
  return async ({ name }: Host) => running[name] ?? Promise.reject(new Error('no answer'));
}

describe('a static directory', () => {
  const log = pino({ level: 'silent' });

  it('asks the hosts of its file, and proves nothing while one does not answer', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'fleet.json');
    await writeFile(path, fileOf('a', 'b'));
    const running: Record<string, LocalDomain[] | undefined> = { a: [{ id: '1', name: 'web' }] };
    await using directory = await StaticDirectory.open({ path, ask: hosts(running), log, askEveryMs: 60_000 });
    await directory.ready();
    expect(directory.find('web')).toMatchObject({ is: 'one', domain: { host: 'a' }, host: { address: 'a:1' } });
    expect(directory.freshness).toMatchObject({ live: false, why: 'host b does not answer: no answer' });
    running['a'] = [];
    running['b'] = [{ id: '1', name: 'web' }];
    expect(await directory.lookAgain('web', { timeoutMs: 10_000 })).toMatchObject({ domain: { host: 'b' } });
    expect(directory.freshness).toEqual({ live: true });
    // One that does not answer has what it had.
    running['b'] = undefined;
    expect(await directory.lookAgain('web', { timeoutMs: 10_000 })).toMatchObject({ domain: { host: 'b' } });
  });

  it('reads its file again when that is replaced, and stays unchanged if the new one is wrong', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'fleet.json');
    await writeFile(path, fileOf('a'));
    const running = { a: [{ id: '1', name: 'web' }], b: [{ id: '2', name: 'db' }] };
    await using directory = await StaticDirectory.open({ path, ask: hosts(running), log, askEveryMs: 60_000 });
    await directory.ready();
    const replace = async (text: string) => {
      await writeFile(`${path}.new`, text);
      await rename(`${path}.new`, path);
    };
    await replace('{');
    await until('the error', directory.changes, () => !directory.freshness.live);
    expect(directory.freshness).toMatchObject({ why: expect.stringMatching(/^fleet.json: It is not JSON/) });
    expect(directory.find('web')).toMatchObject({ is: 'one' });
    await replace(fileOf('b'));
    await until('the new host', directory.changes, () => directory.find('db').is === 'one');
    expect(directory.hosts().map(({ name }) => name)).toEqual(['b']);
    expect(directory.find('web')).toEqual({ is: 'none' });
    expect(directory.freshness).toEqual({ live: true });
  });

  it('does not begin with a wrong file', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'fleet.json');
    await writeFile(path, '{}');
    await expect(StaticDirectory.open({ path, ask: hosts({}), log })).rejects.toThrow(/fleet.json: It must be/);
  });
});
