/** The service, through Connect on the page's own origin. */
import { ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-web';
import { BlockJobService } from '../generated/es/blockjob/v1/block_job_service_pb.js';
import { DomainService } from '../generated/es/blockjob/v1/domain_service_pb.js';
import { ServerService } from '../generated/es/blockjob/v1/server_service_pb.js';
import { ErrorInfoSchema } from '../generated/es/google/rpc/error_details_pb.js';

const transport = createConnectTransport({ baseUrl: location.origin, useBinaryFormat: true });

export const jobService = createClient(BlockJobService, transport);
export const domainService = createClient(DomainService, transport);
export const serverService = createClient(ServerService, transport);

/** An answer that takes longer counts as none. */
export const PATIENCE = { timeoutMs: 10_000 };

/** The reason of the service, as a word of ErrorReason; '' if it has not answered. */
export function reasonOf(error: unknown): string {
  return ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason ?? '';
}

/** Its text, without the code and the reason before it. */
export function textOf(error: unknown): string {
  return ConnectError.from(error).rawMessage.replace(/^[A-Z_]+: /, '');
}
