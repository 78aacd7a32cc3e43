/** Keys, ranges of keys, and their values: text on our side, bytes in etcd. */
import type { KeyValue, RangeRequest } from '../../../generated/etcd/etcd.ts';

/**
 * One key, or all that begin with a prefix. For a page, etcd looks at each key of the asked range, also at those after
 * the page: a large range is read in parts, which begin at `cuts`. They follow the prefix, and are in order.
 */
export type KeyRange = { readonly key: string } | { readonly prefix: string; readonly cuts?: readonly string[] };

/** The two ends of a range, in etcd's form. */
export type Ends = Pick<RangeRequest, 'key' | 'rangeEnd'>;

/** The value of a key. */
export interface Entry {
  readonly key: string;
  readonly value: string;
  /** 0 if the key has no lease. */
  readonly lease: bigint;
  /** The revisions at which it was created, and last written. */
  readonly createRevision: bigint;
  readonly modRevision: bigint;
}

/** The change of a key: its new value, or its deletion. */
export type KeyChange =
  | { readonly key: string; readonly modRevision: bigint; readonly entry: Entry }
  | { readonly key: string; readonly modRevision: bigint; readonly entry: undefined };

export function entryOf({ key, value, lease, createRevision, modRevision }: KeyValue): Entry {
  return { key: key.toString('utf8'), value: value.toString('utf8'), lease, createRevision, modRevision };
}

/** All of the range. */
export function endsOf(range: KeyRange): Ends {
  if ('key' in range) return { key: Buffer.from(range.key), rangeEnd: Buffer.alloc(0) };
  return { key: Buffer.from(range.prefix), rangeEnd: endOfPrefix(Buffer.from(range.prefix)) };
}

/** The parts of the range, in order. */
export function endsOfParts(range: KeyRange): Ends[] {
  const { key, rangeEnd } = endsOf(range);
  const cuts = 'key' in range ? [] : (range.cuts ?? []).map((cut) => Buffer.from(range.prefix + cut));
  return [key, ...cuts].map((from, at) => ({ key: from, rangeEnd: cuts[at] ?? rangeEnd }));
}

/** The first key after all keys with the prefix: its last byte below 255, incremented. */
export function endOfPrefix(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  for (let at = end.length - 1; at >= 0; at -= 1) {
    const byte = end.readUInt8(at);
    if (byte < 0xff) {
      end.writeUInt8(byte + 1, at);
      return end.subarray(0, at + 1);
    }
  }
  // etcd's form of "to the end of all keys".
  return Buffer.alloc(1);
}
