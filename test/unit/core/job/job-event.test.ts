/** The events that are entries of the journal: the contract says it, and all parts that need to know agree. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { JobEvent_Kind } from '../../../../generated/blockjob/v1/job.ts';
import { TYPE_OF } from '../../../../src/agent/desk/watched-job.ts';
import { IS_LIVE } from '../../../../src/client/watch.ts';
import { type EventType, IS_ENTRY } from '../../../../src/core/job/job-event.ts';

/** The values of JobEvent.Kind, each with what its comment says. */
function contract(): Record<string, boolean> {
  const proto = readFileSync('proto/blockjob/v1/job.proto', 'utf8');
  const [, values = ''] = /message JobEvent \{\s*(?:\/\/.*\s*)*enum Kind \{([^}]*)\}/.exec(proto) ?? [];
  const described = [...values.matchAll(/((?:\s*\/\/.*\n)+)\s*KIND_(\w+) = [1-9]/g)];
  return Object.fromEntries(
    described.map(([, comment = '', name = '']) => [name, comment.includes('A journal entry.')]),
  );
}

it('is the same in the contract, for agents and gateways, and for the client, which is packed alone', () => {
  expect(contract()).toEqual(IS_ENTRY);
  const types = Object.keys(IS_ENTRY) as EventType[];
  expect(Object.fromEntries(types.map((type) => [type, !IS_LIVE[JobEvent_Kind[`KIND_${type}`]]]))).toEqual(IS_ENTRY);
});

it('each that is an entry is sent for some entry', () => {
  const types = Object.keys(IS_ENTRY) as EventType[];
  const told = new Set<EventType>(['STATE', ...Object.values(TYPE_OF)]);
  expect(types.filter((type) => IS_ENTRY[type] !== told.has(type))).toEqual([]);
});
