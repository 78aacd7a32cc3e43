/**
 * The file of a static directory:
 *
 *   { "hosts": { "host-a": { "address": "10.0.0.1:50051", "identity": "spiffe://site/host-a", "domains": ["web1"] } } }
 *
 * `identity`, the name in the agent's certificate, may be left out; so may `domains`, which are asked for anyway: those
 * that are listed, by name or UUID, are known before their host has answered.
 */
import { isRecord, isTexts, recordIn } from '../../lib/record.ts';
import { domainId, type Host, type HostedDomain } from './directory.ts';

export interface StaticFile {
  readonly hosts: readonly Host[];
  readonly listed: readonly HostedDomain[];
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const KNOWN = new Set(['address', 'identity', 'domains']);

/** The content of the text, or the sentence that says what is wrong with it. */
export function readStaticFile(text: string): StaticFile | string {
  const found = recordIn(text, 'hosts');
  if (typeof found === 'string') return found;
  const hosts: Host[] = [];
  const listed: HostedDomain[] = [];
  for (const [name, value] of Object.entries(found)) {
    const host = readHost(name, value);
    if (typeof host === 'string') return host;
    hosts.push(host.host);
    listed.push(...host.listed);
  }
  if (hosts.length === 0) return 'It has no hosts.';
  return { hosts, listed };
}

function readHost(name: string, value: unknown): { host: Host; listed: HostedDomain[] } | string {
  if (name === '') return 'A host has no name.';
  if (!isRecord(value)) return `Host ${name} must be an object.`;
  const unknown = Object.keys(value).find((key) => !KNOWN.has(key));
  if (unknown !== undefined) return `Host ${name} has "${unknown}", which means nothing.`;
  const { address, identity = '', domains = [] } = value;
  if (typeof address !== 'string' || address === '') return `Host ${name} needs an "address", like "10.0.0.1:50051".`;
  if (typeof identity !== 'string') return `The "identity" of host ${name} must be a string.`;
  if (!isTexts(domains) || domains.includes('')) {
    return `The "domains" of host ${name} must be a list of names and UUIDs.`;
  }
  const listed = domains.map((one): HostedDomain => {
    const id = UUID.test(one) ? domainId(one, one, name) : domainId('', one, name);
    return { id, name: one, host: name, epoch: 0n };
  });
  return { host: { name, address, identity, version: '', instance: '' }, listed };
}
