/**
 * A client of blockjobd for Node.
 *
 *   import { BlockJobClient } from 'blockjobd-client';
 *
 *   using client = new BlockJobClient({ address: ['gateway1:50051', 'gateway2:50051'], tls: { ca, cert, key } });
 *   const { job } = await client.startCopy({
 *     disk: { domain: 'web1', disk: 'virtio0' },
 *     destination: { target: { $case: 'file', value: '/var/lib/images/web1-new.qcow2' } },
 *   });
 *   for await (const event of client.watchJob({ job: { name: { $case: 'jobId', value: job.id } } })) …
 */
export {
  AbortRequest,
  AbortResponse,
  CommitFlag,
  CommitRequest,
  ForeignJob,
  GetInfoRequest,
  GetInfoResponse,
  HostSnapshot,
  HostSynced,
  HostUnreachable,
  Leftover,
  Leftover_Kind,
  ListJobsRequest,
  ListJobsResponse,
  ListLeftoversRequest,
  ListLeftoversResponse,
  PauseRequest,
  PauseResponse,
  Plan,
  PlanStep,
  PlanStep_Phase,
  RebaseFlag,
  RebaseRequest,
  ReclaimRequest,
  ReclaimResponse,
  ReclaimResult,
  ResumeRequest,
  ResumeResponse,
  SetSpeedRequest,
  SetSpeedResponse,
  StartCopyRequest,
  WatchComplete,
  WatchHeartbeat,
  WatchJobRequest,
  WatchJobResponse,
  WatchJobsRequest,
  WatchJobsResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
export {
  CheckOperationRequest,
  CheckOperationResponse,
  Disk,
  Domain,
  GetDomainRequest,
  GetDomainResponse,
  GuestState,
  Image,
  ListDomainsRequest,
  ListDomainsResponse,
  Operation,
} from '../../generated/blockjob/v1/domain_service.ts';
export { ErrorReason } from '../../generated/blockjob/v1/error_reason.ts';
export {
  Accept,
  AtDeadline,
  ConfigOwner,
  Convergence,
  Destination,
  DestinationContent,
  DiskRef,
  Encryption,
  EndPolicy,
  EndStep,
  EndStep_Kind,
  Evidence,
  Evidence_Source,
  GuestThrottle,
  ImageFormat,
  Job,
  Job_State,
  JobEndPolicy,
  JobEvent,
  JobEvent_Kind,
  JobKind,
  JobOptions,
  JobRef,
  JobSpace,
  JobSpace_Level,
  NbdDestination,
  NbdTcpServer,
  OnNoSpace,
  OnReady,
  Outcome,
  PauseGuest,
  PauseReason,
  Progress,
  Progress_Phase,
  SafeToDelete,
  ThrottledGuest,
  WriteMode,
} from '../../generated/blockjob/v1/job.ts';
export {
  GetServerInfoRequest,
  GetServerInfoResponse,
  ServerInfo,
  ServerMode,
} from '../../generated/blockjob/v1/server_service.ts';
export { BlockJobClient, type Started } from './client.ts';
export { fromMs, toMs } from './durations.ts';
export { BlockJobError, type Code, errorOfStatus, type FieldViolation, type Reason } from './errors.ts';
export type { CallOptions, ConnectOptions, Endurance, Pem, Retry, TlsOptions } from './options.ts';
export type { WatchOptions } from './stream.ts';
export { hasEnded } from './watch.ts';
