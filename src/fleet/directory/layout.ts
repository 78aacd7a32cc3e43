/**
 * The keys in etcd, and their values.
 *
 *   /blockjob/v1/hosts/HOST     how to reach its agent; on that agent's lease: no key, no agent
 *   /blockjob/v1/domains/ID     its owner; without a lease, because a domain outlives its agent. The revision of its
 *                               last write is the epoch
 *   /blockjob/v1/owned/HOST     the domains of the host: a restarted agent finds those that have ended meanwhile. A host
 *                               that takes a domain takes it off this list, too, so that the previous host learns of it
 */
import { isRecord } from '../../lib/record.ts';
import type { Entry } from '../etcd/keys.ts';
import type { Host, HostedDomain } from './directory.ts';

const ROOT = '/blockjob/v1/';
export const HOSTS = `${ROOT}hosts/`;
export const DOMAINS = `${ROOT}domains/`;
/** Almost all ids are UUIDs. */
export const DOMAIN_CUTS = '123456789abcdef'.split('');

/** The domains of a host, by its own entry. */
export interface OwnedList {
  readonly ids: ReadonlySet<string>;
  /** 0 if there is no such entry. */
  readonly modRevision: bigint;
}

export const NO_LIST: OwnedList = { ids: new Set(), modRevision: 0n };

export const hostKey = (host: string) => HOSTS + host;
export const domainKey = (id: string) => DOMAINS + id;
export const ownedKey = (host: string) => `${ROOT}owned/${host}`;

export function hostValue({ address, identity, version, instance }: Host): string {
  return JSON.stringify({ address, identity, version, instance });
}

export function domainValue({ name, host, instance }: Pick<HostedDomain, 'name' | 'host'> & Pick<Host, 'instance'>) {
  return JSON.stringify({ name, host, instance });
}

export function ownedValue(ids: Iterable<string>): string {
  return JSON.stringify([...ids]);
}

/** Undefined for an entry that is not ours. */
export function readHost({ key, value }: Pick<Entry, 'key' | 'value'>): Host | undefined {
  const { address, identity, version, instance } = fieldsOf(value);
  if (!isText(address) || !isText(instance)) return undefined;
  const name = endOf(key, HOSTS);
  return { name, address, identity: textOr(identity), version: textOr(version), instance };
}

/** Undefined for an entry that is not ours. */
export function readDomain(entry: Entry): (HostedDomain & { readonly instance: string }) | undefined {
  const { name, host, instance } = fieldsOf(entry.value);
  if (!isText(name) || !isText(host) || !isText(instance)) return undefined;
  return { id: endOf(entry.key, DOMAINS), name, host, instance, epoch: entry.modRevision };
}

/** A text of its own: a slice would keep the whole key in memory. */
function endOf(key: string, prefix: string): string {
  return Buffer.from(key).toString('utf8', prefix.length);
}

/** NO_LIST if there is no entry. */
export function readOwned(entry: Entry | undefined): OwnedList {
  if (entry === undefined) return NO_LIST;
  const parsed = parse(entry.value);
  const ids = Array.isArray(parsed) ? parsed.filter((id) => typeof id === 'string') : [];
  return { ids: new Set(ids), modRevision: entry.modRevision };
}

function fieldsOf(text: string): Readonly<Record<string, unknown>> {
  const parsed = parse(text);
  return isRecord(parsed) ? parsed : {};
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function textOr(value: unknown): string {
  return isText(value) ? value : '';
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
