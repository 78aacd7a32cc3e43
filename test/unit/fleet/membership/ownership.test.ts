import { describe, expect, it } from 'vitest';
import { type Decision, decide, type OwnershipFacts } from '../../../../src/fleet/membership/ownership.ts';

const me = { host: 'a', instance: 'i' };
const web = { name: 'web' };
const mine = { host: 'a', instance: 'i', name: 'web', epoch: 7n };
const theirs = { host: 'b', instance: 'j', name: 'web', epoch: 8n };
const NOTHING: OwnershipFacts = { me, here: undefined, arrived: false, seen: undefined, ownerIsThere: false };

const cases: readonly [what: string, situation: Partial<OwnershipFacts>, decision: Decision][] = [
  ['nowhere and not here', {}, { do: 'nothing' }],
  ['not here, and owned by another host', { seen: theirs, ownerIsThere: true }, { do: 'nothing' }],
  ['not here, and another’s who has gone', { seen: theirs }, { do: 'nothing' }],
  ['not here any more, and ours', { seen: mine }, { do: 'release' }],
  ['not here, and ours from before the host was made again', { seen: { ...mine, instance: 'k' } }, { do: 'release' }],
  ['not here, and not understood', { seen: 'unreadable' }, { do: 'nothing' }],
  ['here, and without an owner', { here: web }, { do: 'claim', unless: undefined }],
  ['here, and ours', { here: web, seen: mine }, { do: 'keep', epoch: 7n }],
  ['here, and ours though it was seen to arrive', { here: web, arrived: true, seen: mine }, { do: 'keep', epoch: 7n }],
  ['here, and ours by another name', { here: { name: 'db' }, seen: mine }, { do: 'claim', unless: undefined }],
  ['here, and ours from before', { here: web, seen: { ...mine, instance: 'k' } }, { do: 'claim', unless: undefined }],
  ['here, and owned by another host', { here: web, seen: theirs, ownerIsThere: true }, { do: 'contest', owner: 'b' }],
  ['here, and another’s who has gone', { here: web, seen: theirs }, { do: 'claim', unless: 'b' }],
  [
    'seen to arrive from another',
    { here: web, arrived: true, seen: theirs, ownerIsThere: true },
    { do: 'claim', unless: undefined },
  ],
  ['here, and not understood', { here: web, arrived: true, seen: 'unreadable' }, { do: 'contest', owner: undefined }],
];

describe('a domain', () => {
  it.each(cases)('that is %s', (_what, situation, decision) => {
    expect(decide({ ...NOTHING, ...situation })).toEqual(decision);
  });
});
