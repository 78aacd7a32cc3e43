/** The rules of Commit that need nothing but the request. Source: libvirt's virDomainBlockCommit. */

import { type JobOptions, plainOptions } from '../job-options.ts';
import type { CommitRequest } from '../requests.ts';
import { bandwidthIn, bytesPerSecond, diskRules, flagsOf, requestIdRules, throwIfAny } from './rule.ts';

export interface CommitSpec {
  /** As they were given; '' for none. */
  readonly base: string;
  readonly top: string;
  /** The base is the image just below the top. */
  readonly shallow: boolean;
  /** The top is the active image, and is meant to be. */
  readonly active: boolean;
  readonly options: JobOptions;
}

/** Throws all that is wrong with the request, at once. */
export function parseCommit(request: CommitRequest): CommitSpec {
  const { flags, violations } = flagsOf(request.flags);
  const unit = flags.has('BANDWIDTH_BYTES') ? 'BYTES' : 'MIB';
  throwIfAny([
    ...diskRules(request),
    ...violations,
    ...bandwidthIn(unit, request.bandwidth),
    ...requestIdRules(request),
  ]);
  return {
    base: request.base,
    top: request.top,
    shallow: flags.has('SHALLOW'),
    active: flags.has('ACTIVE'),
    options: {
      ...plainOptions(bytesPerSecond(unit, request.bandwidth)),
      shallow: flags.has('SHALLOW'),
      relativeBacking: flags.has('RELATIVE'),
      deleteCommitted: flags.has('DELETE'),
    },
  };
}
