/** Short forms for the contents of a transaction and for its result. */
import {
  type Compare,
  Compare_CompareResult,
  Compare_CompareTarget,
  type RequestOp,
  type TxnResponse,
} from '../../../generated/etcd/etcd.ts';
import { type Entry, endsOf, entryOf } from './keys.ts';

export interface Txn {
  /** All of them must hold. An empty list holds. */
  readonly when: readonly Compare[];
  readonly ifSo: readonly RequestOp[];
  readonly ifNot?: readonly RequestOp[];
}

export interface TxnAnswer {
  /** Whether the comparisons held. */
  readonly held: boolean;
  /** The revision of the store after it. The written keys have it as their modRevision. */
  readonly revision: bigint;
  /** The result of each read in the chosen branch, in order. */
  readonly found: readonly (Entry | undefined)[];
}

/** The key was last written at this revision; 0 if it does not exist. */
export function modifiedAt(key: string, revision: bigint): Compare {
  return {
    result: Compare_CompareResult.EQUAL,
    target: Compare_CompareTarget.MOD,
    key: Buffer.from(key),
    targetUnion: { $case: 'modRevision', value: revision },
  };
}

export function absent(key: string): Compare {
  return modifiedAt(key, 0n);
}

export function put(key: string, value: string, lease = 0n): RequestOp {
  return { request: { $case: 'requestPut', value: { key: Buffer.from(key), value: Buffer.from(value), lease } } };
}

export function remove(key: string): RequestOp {
  return { request: { $case: 'requestDeleteRange', value: endsOf({ key }) } };
}

export function read(key: string): RequestOp {
  return { request: { $case: 'requestRange', value: { ...endsOf({ key }), limit: 1n, revision: 0n } } };
}

/** Whether it can change anything. */
export function isChange({ ifSo, ifNot = [] }: Txn): boolean {
  return [...ifSo, ...ifNot].some(({ request }) => request?.$case !== 'requestRange');
}

export function answerOf({ succeeded, header, responses }: TxnResponse): TxnAnswer {
  const found = responses.flatMap(({ response }) => {
    if (response?.$case !== 'responseRange') return [];
    const [kv] = response.value.kvs;
    return [kv === undefined ? undefined : entryOf(kv)];
  });
  return { held: succeeded, revision: header?.revision ?? 0n, found };
}
