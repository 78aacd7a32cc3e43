import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { domainId, type Host, type HostedDomain } from '../../../../src/fleet/directory/directory.ts';
import { Roster } from '../../../../src/fleet/directory/roster.ts';

const host = (name: string): Host => ({ name, address: `${name}:1`, identity: '', version: '', instance: 'i' });
const domain = (id: string, name: string, on: string, epoch = 1n): HostedDomain => ({ id, name, host: on, epoch });

/** The calls of maps, sets and lists. One that may visit every item counts for each of them. */
function countWork(work: () => void): number {
  let count = 0;
  using changed = new DisposableStack();
  for (const prototype of [Map.prototype, Set.prototype, Array.prototype]) {
    for (const [name, described] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
      const own: unknown = described.value;
      if (typeof own !== 'function' || name === 'constructor') continue;
      const isLookup = /^(get|set|has|add|delete|push)$/.test(name);
      const value = function counted(this: { readonly size?: number; readonly length?: number }, ...all: unknown[]) {
        count += isLookup ? 1 : 1 + (this.size ?? this.length ?? 0);
        return Reflect.apply(own, this, all) as unknown;
      };
      Object.defineProperty(prototype, name, { ...described, value });
      changed.defer(() => Object.defineProperty(prototype, name, described));
    }
  }
  work();
  return count;
}

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

  it('lists the absent hosts that own domains', () => {
    const roster = new Roster();
    for (const [id, on] of Object.entries({ 1: 'c', 2: 'b', 3: 'b', 4: 'a' }))
      roster.setDomain(id, domain(id, 'web', on));
    expect(roster.missing()).toEqual(['a', 'b', 'c']);
    roster.setHost('a', host('a'));
    roster.setDomain('2', undefined);
    roster.setDomain('1', domain('1', 'web', 'd'));
    expect(roster.missing()).toEqual(['b', 'd']);
    roster.setHost('a', undefined);
    roster.setDomain('3', domain('3', 'web', 'd'));
    expect(roster.missing()).toEqual(['a', 'd']);
    roster.resetHosts([host('d'), host('x')]);
    expect(roster.missing()).toEqual(['a']);
    roster.resetDomains([domain('5', 'web', 'y')]);
    expect(roster.missing()).toEqual(['y']);
  });

  it('does the same work for a change in a fleet of any size', () => {
    const work = [10, 1000].map((hosts) => {
      const roster = new Roster();
      for (let at = 0; at < hosts; at += 1) {
        roster.setHost(`h${at}`, host(`h${at}`));
        for (let vm = 0; vm < 5; vm += 1)
          roster.setDomain(`${at}-${vm}`, domain(`${at}-${vm}`, `vm${at}-${vm}`, `h${at}`));
      }
      // Lists are made when they are asked for, not at a change.
      expect([roster.hosts().length, roster.missing().length]).toEqual([hosts, 0]);
      return countWork(() => {
        roster.setDomain('5-1', domain('5-1', 'vm5-1', 'h6', 2n));
        roster.setHost('h7', undefined);
        roster.setHost('new', host('new'));
        roster.setDomain('8-1', undefined);
      });
    });
    expect(work[0]).toBeGreaterThan(10);
    expect(work[1]).toBe(work[0]);
  });

  it('makes a list once for all that ask, until it changes', () => {
    const roster = new Roster();
    for (const name of ['b', 'a']) roster.setHost(name, host(name));
    for (const id of ['1', '3']) roster.setDomain(id, domain(id, 'web', 'c'));
    const [hosts, missing] = [roster.hosts(), roster.missing()];
    roster.setDomain('1', domain('1', 'db', 'c', 2n));
    roster.setDomain('2', domain('2', 'web', 'a'));
    expect(roster.hosts()).toBe(hosts);
    expect(roster.missing()).toBe(missing);
    roster.setHost('a', undefined);
    expect(roster.hosts()).toEqual([host('b')]);
    expect(roster.missing()).toEqual(['a', 'c']);
    expect(hosts).toHaveLength(2);
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
