/**
 * The table of calls agrees with the contract's own comments; and the calls with a request_id are those that operate.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BlockJobServiceService } from '../../../generated/blockjob/v1/block_job_service.ts';
import { DomainServiceService } from '../../../generated/blockjob/v1/domain_service.ts';
import { BlockJobClient } from '../../../src/client/client.ts';
import { CALLS } from '../../../src/core/calls.ts';
import { catalogue } from '../../../src/core/catalogue.ts';
import { present } from '../../support/checks.ts';

const METHODS = [...Object.values(BlockJobServiceService), ...Object.values(DomainServiceService)];
const ROWS = Object.values(CALLS);
const PROTO = ['block_job_service', 'domain_service'].map((name) =>
  readFileSync(join(import.meta.dirname, `../../../proto/blockjob/v1/${name}.proto`), 'utf8'),
);

const nameOf = ({ path }: { readonly path: string }) => present(path.split('/').at(-1));

function reasonsIn(text: string): string[] {
  return (text.match(/\b[A-Z]+(?:_[A-Z]+)*\b/g) ?? []).filter((word) => Object.hasOwn(catalogue, word));
}

/** As one line. */
function commentOf(what: RegExp): string {
  for (const proto of PROTO) {
    const found = new RegExp(String.raw`((?: *//[^\n]*\n)+) *${what.source}`).exec(proto);
    if (found?.[1] !== undefined) return found[1].replaceAll(/\n? *\/\/ ?/g, ' ');
  }
  throw new Error(`no comment above ${what.source}`);
}

/** The sentences that say how a call fails. */
function said(rpc: string): Set<string> {
  const comment = commentOf(new RegExp(String.raw`rpc ${rpc}\(`));
  const sentences = comment.match(/(?:Fails|Refused with)[^.]*\./g) ?? [];
  const asStart = /Fails as StartCopy does/.test(comment) ? said('StartCopy') : [];
  return new Set([...asStart, ...sentences.flatMap(reasonsIn)]);
}

/** The general part of a service's comment about every call, and about every write. */
const ALL = ['BlockJobService', 'DomainService'].map((service) => {
  const head = commentOf(new RegExp(String.raw`service ${service} \{`));
  return new Set(reasonsIn(present(/Besides the reasons named at each call,([^.]*)\./.exec(head)?.[1])));
});
const OF_ALL = new Set(ALL.flatMap((names) => [...names]));

describe('the table of calls', () => {
  it('has a row for each call of the contract, and no other', () => {
    expect(ROWS.map(({ rpc }) => rpc).toSorted()).toEqual(METHODS.map(nameOf).toSorted());
  });

  it('has a method of the client for each', () => {
    const names = [...Object.keys(BlockJobServiceService), ...Object.keys(DomainServiceService)];
    expect(names.filter((name) => !Object.hasOwn(BlockJobClient.prototype, name))).toEqual([]);
  });

  it.each(ROWS)('$rpc fails with the reasons that its comment names, and no other', ({ rpc, fails }) => {
    const names = fails.split(/\s+/).filter((name) => name !== '');
    expect(names.filter((name) => !Object.hasOwn(catalogue, name))).toEqual([]);
    expect(new Set(names).size).toBe(names.length);
    const own = (of: Iterable<string>) =>
      [...of].filter((name) => !OF_ALL.has(name) || names.includes(name)).toSorted();
    expect(own(names)).toEqual(own(said(rpc)));
  });

  it.each(ROWS)('$rpc operates if it has a request_id, and only then', ({ rpc, right }) => {
    const { requestDeserialize } = present(METHODS.find((method) => nameOf(method) === rpc));
    expect(right).toBe('requestId' in requestDeserialize(Buffer.alloc(0)) ? 'operate' : 'read');
  });

  it('leaves no reason out that a call of a caller can have', () => {
    // Reasons of the connection, of an ended job, or of another version; and of files within the service; and in an
    // answer or an event.
    const others =
      'CHAIN_BUSY TOO_MANY_CALLS TIME_LIMIT_REACHED JOB_LOST NOT_ON_DISK REASON_UNKNOWN GUEST_FLOOR_TOO_HIGH';
    const named = new Set([...ROWS.flatMap(({ fails }) => fails.split(/\s+/)), ...OF_ALL, ...others.split(' ')]);
    expect(Object.keys(catalogue).filter((reason) => !named.has(reason))).toEqual([]);
  });
});
