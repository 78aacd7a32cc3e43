/** Messages → core types: jobs of others, and leftovers, at a remote service. */
import {
  type ForeignJob as ForeignJobMessage,
  Leftover_Kind,
  type Leftover as LeftoverMessage,
  type ReclaimResult as ReclaimResultMessage,
} from '../../../generated/blockjob/v1/block_job_service.ts';
import type { Leftover, ReclaimResult } from '../../core/block-jobs.ts';
import type { ForeignJob } from '../../core/foreign-job.ts';
import { namedOf } from '../enums.ts';
import { unlessEmpty } from './answers.ts';
import { failureOf } from './failure.ts';

export function toForeignJob(message: ForeignJobMessage): ForeignJob {
  const { id, host, disk } = message;
  return {
    id,
    host,
    domain: disk?.domain ?? '',
    domainUuid: unlessEmpty(message.domainUuid),
    disk: unlessEmpty(disk?.disk ?? ''),
    type: message.kind,
    // Another QEMU's word, in any version.
    status: message.status as ForeignJob['status'],
    currentBytes: Number(message.current),
    endBytes: Number(message.end),
    error: unlessEmpty(message.error),
    isOfLibvirt: message.managedByLibvirt,
  };
}

export function toLeftover(message: LeftoverMessage): Leftover {
  return {
    ...message,
    kind: namedOf(Leftover_Kind, 'KIND', message.kind),
    allocatedBytes: Number(message.allocatedBytes),
    createTime: message.createTime?.toISOString(),
  };
}

export function toReclaimResult({ leftover, error }: ReclaimResultMessage): ReclaimResult {
  // The answer has only the id of a leftover that is gone.
  const isThere = leftover !== undefined && leftover.kind !== Leftover_Kind.KIND_UNSPECIFIED;
  return {
    id: leftover?.id ?? '',
    leftover: isThere ? toLeftover(leftover) : undefined,
    failure: error && failureOf(error),
  };
}
