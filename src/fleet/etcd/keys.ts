/** Keys, ranges of them, and what is found there: text on our side, bytes on etcd's. */
import type { KeyValue, RangeRequest } from '../../../generated/etcd/etcd.ts';

/** One key, or all that begin with a prefix. */
export type KeyRange = { readonly key: string } | { readonly prefix: string };

/** What is under a key. */
export interface Entry {
  readonly key: string;
  readonly value: string;
  /** 0 when the key has no lease. */
  readonly lease: bigint;
  /** The revisions at which it came to be, and at which it was written last. */
  readonly createRevision: bigint;
  readonly modRevision: bigint;
}

/** What became of a key: its new entry, or its end. */
export type KeyChange =
  | { readonly key: string; readonly modRevision: bigint; readonly entry: Entry }
  | { readonly key: string; readonly modRevision: bigint; readonly entry: undefined };

export function entryOf({ key, value, lease, createRevision, modRevision }: KeyValue): Entry {
  return { key: key.toString('utf8'), value: value.toString('utf8'), lease, createRevision, modRevision };
}

/** The two ends of a range, as etcd wants them. */
export function endsOf(range: KeyRange): Pick<RangeRequest, 'key' | 'rangeEnd'> {
  if ('key' in range) return { key: Buffer.from(range.key), rangeEnd: Buffer.alloc(0) };
  return { key: Buffer.from(range.prefix), rangeEnd: endOfPrefix(Buffer.from(range.prefix)) };
}

/** The first key after all that begin with the prefix: its last byte that can be, counted up by one. */
export function endOfPrefix(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  for (let at = end.length - 1; at >= 0; at -= 1) {
    const byte = end.readUInt8(at);
    if (byte < 0xff) {
      end.writeUInt8(byte + 1, at);
      return end.subarray(0, at + 1);
    }
  }
  // etcd's word for "to the end of all keys".
  return Buffer.alloc(1);
}
