import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { domainId, type Host, type HostedDomain } from '../../../../src/fleet/directory/directory.ts';
import { Roster } from '../../../../src/fleet/directory/roster.ts';

const host = (name: string): Host => ({ name, address: `${name}:1`, identity: '', version: '', instance: 'i' });
const domain = (id: string, name: string, on: string, epoch = 1n): HostedDomain => ({ id, name, host: on, epoch });

describe('the roster', () => {
  it('finds a domain by id and by name, with the host that owns it', () => {
    const roster = new Roster();
    roster.setHost('a', host('a'));
    roster.setDomain('1d', domain('1d', 'web', 'a'));
    const found = { is: 'one', domain: domain('1d', 'web', 'a'), host: host('a') };
    expect(roster.find('1d')).toEqual(found);
    expect(roster.find('1D')).toEqual(found);
    expect(roster.find('web')).toEqual(found);
    expect(roster.find('WEB')).toEqual({ is: 'none' });
  });

  it('distinguishes a host that has gone from a domain that does not exist', () => {
    const roster = new Roster();
    roster.setHost('a', host('a'));
    roster.setDomain('1', domain('1', 'web', 'a'));
    roster.setHost('a', undefined);
    expect(roster.find('web')).toEqual({ is: 'one', domain: domain('1', 'web', 'a'), host: undefined });
    roster.setDomain('1', undefined);
    expect(roster.find('web')).toEqual({ is: 'none' });
  });

  it('does not choose between domains of one name, but knows each by its id', () => {
    const roster = new Roster();
    roster.setDomain('1', domain('1', 'web', 'a'));
    roster.setDomain('2', domain('2', 'web', 'b'));
    expect(roster.find('web')).toMatchObject({ is: 'several', domains: [{ id: '1' }, { id: '2' }] });
    expect(roster.find('2')).toMatchObject({ is: 'one', domain: { host: 'b' } });
    roster.setDomain('1', domain('1', 'db', 'a'));
    expect(roster.find('web')).toMatchObject({ is: 'one', domain: { id: '2' } });
    expect(roster.find('db')).toMatchObject({ is: 'one', domain: { id: '1' } });
  });

  it('lists hosts by name', () => {
    const roster = new Roster();
    for (const name of ['b', 'c', 'a']) roster.setHost(name, host(name));
    expect(roster.hosts().map(({ name }) => name)).toEqual(['a', 'b', 'c']);
  });

  it('is after any changes equal to a reset to their result', () => {
    const ids = fc.constantFrom('1', '2', '3', '4');
    const names = fc.constantFrom('web', 'db');
    const changes = fc.array(fc.tuple(ids, fc.option(names, { nil: undefined }), fc.constantFrom('a', 'b')));
    fc.assert(
      fc.property(changes, (all) => {
        const changed = new Roster();
        const last = new Map<string, HostedDomain>();
        for (const [id, name, on] of all) {
          const now = name === undefined ? undefined : domain(id, name, on);
          changed.setDomain(id, now);
          last.delete(id);
          if (now !== undefined) last.set(id, now);
        }
        const reset = new Roster();
        reset.setDomain('9', domain('9', 'web', 'a'));
        reset.resetDomains([...last.values()]);
        expect([...changed.domains()]).toEqual([...reset.domains()]);
        for (const asked of ['1', '2', '3', '4', '9']) expect(changed.find(asked)).toEqual(reset.find(asked));
        for (const asked of ['web', 'db']) {
          const idsOf = (roster: Roster) => {
            const found = roster.find(asked);
            if (found.is === 'none') return [];
            return (found.is === 'one' ? [found.domain] : found.domains).map(({ id }) => id).toSorted();
          };
          expect(idsOf(changed)).toEqual(idsOf(reset));
        }
      }),
    );
  });
});

describe('the id of a domain', () => {
  it.each([
    ['0A0B0C0D-0000-4000-8000-00000000000F', '0a0b0c0d-0000-4000-8000-00000000000f'],
    // QEMU's answer if it was started without -uuid.
    ['00000000-0000-0000-0000-000000000000', 'host/web'],
    ['', 'host/web'],
  ])('is its UUID, if it has one: %s → %s', (uuid, id) => {
    expect(domainId(uuid, 'web', 'host')).toBe(id);
  });
});
