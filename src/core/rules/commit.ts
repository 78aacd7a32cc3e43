/** The rules of Commit that need only the request. Source: libvirt's virDomainBlockCommit. */

import { type Accept, type JobOptions, plainOptions } from '../job-options.ts';
import type { CommitRequest } from '../requests.ts';
import { acceptedIn, bandwidthIn, bytesPerSecond, flagsOf } from './rule.ts';

export interface CommitSpec {
  /** The name in the request; '' for none. */
  readonly base: string;
  readonly top: string;
  /** The base is the image just below the top. */
  readonly shallow: boolean;
  /** Whether the caller means the active image as the top. */
  readonly active: boolean;
  readonly options: JobOptions;
  readonly accept: ReadonlySet<Accept>;
}

/** Throws all violations of the request together. */
export function parseCommit(request: CommitRequest): CommitSpec {
  const { flags, violations } = flagsOf(request.flags);
  const unit = flags.has('BANDWIDTH_BYTES') ? 'BYTES' : 'MIB';
  const accept = acceptedIn(request, [...violations, ...bandwidthIn(unit, request.bandwidth)]);
  return {
    base: request.base,
    top: request.top,
    shallow: flags.has('SHALLOW'),
    active: flags.has('ACTIVE'),
    accept,
    options: {
      ...plainOptions(bytesPerSecond(unit, request.bandwidth)),
      shallow: flags.has('SHALLOW'),
      relativeBacking: flags.has('RELATIVE'),
      deleteCommitted: flags.has('DELETE'),
    },
  };
}
