/** The service, through Connect on the page's own origin. */
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-web';
import { BlockJobService } from '../generated/es/blockjob/v1/block_job_service_pb.js';
import { DomainService } from '../generated/es/blockjob/v1/domain_service_pb.js';
import { ServerService } from '../generated/es/blockjob/v1/server_service_pb.js';

const transport = createConnectTransport({ baseUrl: location.origin, useBinaryFormat: true });

export const jobService = createClient(BlockJobService, transport);
export const domainService = createClient(DomainService, transport);
export const serverService = createClient(ServerService, transport);

/** An answer that takes longer counts as none. */
export const PATIENCE = { timeoutMs: 10_000 };
