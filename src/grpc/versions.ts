/** Gateways and agents of different versions: a call that one of them is too old for is refused before it begins. */
import type { Metadata } from '@grpc/grpc-js';
import { BlockJobError, fail, failure } from '../core/errors.ts';
import type { ServerInfo } from '../core/server-info.ts';
import { VERSION } from '../lib/version.ts';
import { EPOCH_HEADER } from './identity.ts';

/** The version of the gateway that passes the call on. */
export const VERSION_HEADER = 'blockjob-version';
/** The first version whose agents keep the labels of a job. */
export const LABELS_SINCE = '0.1.0';
/** The first version whose agents know the gate of a pivot. */
export const GATES_SINCE = '0.1.0';
/** The first version whose agents have end policies. */
export const POLICIES_SINCE = '0.1.0';

/** Gateways that do not state their version misread the answers: a job has begun, or an operation seems allowed. */
const MISREAD: ReadonlySet<string> = new Set(['StartCopy', 'Rebase', 'Commit', 'CheckOperation']);

/** Throws VERSIONS_DIFFER, at an agent. */
export function refuseOlderGateway(
  rpc: string,
  metadata: Metadata,
  server: Pick<ServerInfo, 'host' | 'version'>,
): void {
  if (!MISREAD.has(rpc) || metadata.get(EPOCH_HEADER).length === 0 || metadata.get(VERSION_HEADER).length > 0) return;
  const versions = { agentVersion: server.version, gatewayVersion: 'unknown' };
  fail('VERSIONS_DIFFER', { host: server.host, ...versions, feature: rpc, older: 'gateway' });
}

interface AgentThere {
  readonly host: string;
  /** '' if it does not say it. */
  readonly agentVersion: string;
}

/** At a gateway. */
export function agentTooOld({ host, agentVersion }: AgentThere, feature: string): BlockJobError {
  const versions = { agentVersion: agentVersion === '' ? 'unknown' : agentVersion, gatewayVersion: VERSION };
  return new BlockJobError(failure('VERSIONS_DIFFER', { host, ...versions, feature, older: 'agent' }));
}

/** By semver.org: a pre-release comes before its release. `since` is a release; '' comes before all. */
export function isBefore(version: string, since: string): boolean {
  const [release = '', ...pre] = version.split('-');
  const order = release.localeCompare(since, 'en', { numeric: true });
  return order < 0 || (order === 0 && pre.length > 0);
}
