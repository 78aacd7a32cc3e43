/**
 * The longest text of each field of a request, in bytes of UTF-8, and the most elements of each list: one table, which
 * proto/ repeats for callers. A longer value is refused before any use.
 */

/** As in QEMU, or a UUID. */
const DOMAIN = 1024;
/** A path with its end, as the kernel takes it (PATH_MAX); the name of a disk or an image may be one. */
const PATH = 4096;
const HOST = 253;
const REQUEST_ID = 128;
const ETAG = 128;
/** Opaque for callers: a position in a list, in which each byte of two names may take three. */
const PAGE_TOKEN = 8192;
/** The id of an object in QEMU. */
const OBJECT_ID = 127;
/** One element per flag; some may be repeated. */
const FLAGS = 64;
const LABELS = 32;
/** The longest SPIFFE id. */
const CALLER = 2048;
/** Opaque to callers: a position on each host of a fleet. */
const RESUME_TOKEN = 128 * 1024;

interface Bound {
  /** For one text. */
  readonly bytes?: number;
  /** For a list. */
  readonly count?: number;
}

export const BOUNDS: Readonly<Record<string, Bound>> = {
  'blockjob.v1.DiskRef.domain': { bytes: DOMAIN },
  'blockjob.v1.DiskRef.disk': { bytes: PATH },
  'blockjob.v1.JobRef.job_id': { bytes: 64 },
  'blockjob.v1.Destination.file': { bytes: PATH },
  'blockjob.v1.Destination.block_device': { bytes: PATH },
  'blockjob.v1.Encryption.secret_id': { bytes: OBJECT_ID },
  'blockjob.v1.NbdDestination.unix_socket': { bytes: PATH },
  'blockjob.v1.NbdDestination.export_name': { bytes: PATH },
  'blockjob.v1.NbdDestination.tls_credentials_id': { bytes: OBJECT_ID },
  'blockjob.v1.NbdDestination.tls_hostname': { bytes: HOST },
  'blockjob.v1.NbdTcpServer.host': { bytes: HOST },
  'blockjob.v1.StartCopyRequest.request_id': { bytes: REQUEST_ID },
  'blockjob.v1.StartCopyRequest.plan_etag': { bytes: ETAG },
  'blockjob.v1.StartCopyRequest.accept': { count: FLAGS },
  'blockjob.v1.StartCopyRequest.labels': { count: LABELS },
  'blockjob.v1.RebaseRequest.base': { bytes: PATH },
  'blockjob.v1.RebaseRequest.flags': { count: FLAGS },
  'blockjob.v1.RebaseRequest.request_id': { bytes: REQUEST_ID },
  'blockjob.v1.RebaseRequest.plan_etag': { bytes: ETAG },
  'blockjob.v1.RebaseRequest.accept': { count: FLAGS },
  'blockjob.v1.RebaseRequest.labels': { count: LABELS },
  'blockjob.v1.CommitRequest.base': { bytes: PATH },
  'blockjob.v1.CommitRequest.top': { bytes: PATH },
  'blockjob.v1.CommitRequest.flags': { count: FLAGS },
  'blockjob.v1.CommitRequest.request_id': { bytes: REQUEST_ID },
  'blockjob.v1.CommitRequest.plan_etag': { bytes: ETAG },
  'blockjob.v1.CommitRequest.accept': { count: FLAGS },
  'blockjob.v1.CommitRequest.labels': { count: LABELS },
  'blockjob.v1.ListJobsRequest.domain': { bytes: DOMAIN },
  'blockjob.v1.ListJobsRequest.state_filter': { count: FLAGS },
  'blockjob.v1.ListJobsRequest.page_token': { bytes: PAGE_TOKEN },
  'blockjob.v1.ListJobsRequest.label_filter': { count: LABELS },
  'blockjob.v1.ListJobsRequest.created_by_filter': { bytes: CALLER },
  'blockjob.v1.WatchJobsRequest.domain': { bytes: DOMAIN },
  'blockjob.v1.WatchJobsRequest.label_filter': { count: LABELS },
  'blockjob.v1.WatchJobsRequest.created_by_filter': { bytes: CALLER },
  'blockjob.v1.WatchJobsRequest.resume_token': { bytes: RESUME_TOKEN },
  'blockjob.v1.SetSpeedRequest.request_id': { bytes: REQUEST_ID },
  'blockjob.v1.PauseRequest.request_id': { bytes: REQUEST_ID },
  'blockjob.v1.ResumeRequest.request_id': { bytes: REQUEST_ID },
  'blockjob.v1.AbortRequest.request_id': { bytes: REQUEST_ID },
  'blockjob.v1.ConfigRecord.token': { bytes: 64 },
  'blockjob.v1.ListLeftoversRequest.domain': { bytes: DOMAIN },
  'blockjob.v1.ListLeftoversRequest.page_token': { bytes: PAGE_TOKEN },
  // The id of a leftover on a host: the name of a node or a job in QEMU, and the host's name.
  'blockjob.v1.ReclaimRequest.leftover_ids': { bytes: 320, count: 500 },
  'blockjob.v1.ReclaimRequest.request_id': { bytes: REQUEST_ID },
  'blockjob.v1.ListDomainsRequest.host': { bytes: HOST },
  'blockjob.v1.ListDomainsRequest.page_token': { bytes: PAGE_TOKEN },
  'blockjob.v1.GetDomainRequest.domain': { bytes: DOMAIN },
  'blockjob.v1.CheckOperationRequest.domain': { bytes: DOMAIN },
  'blockjob.v1.CheckOperationRequest.disk': { bytes: PATH },
};
