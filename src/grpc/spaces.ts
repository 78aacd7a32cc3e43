/** The space at the destination of a copy: message ↔ core type. */
import { JobSpace_Level, type JobSpace as SpaceMessage } from '../../generated/blockjob/v1/job.ts';
import type { JobSpace } from '../core/job/space.ts';
import { namedOf, toEnum } from './enums.ts';

export function fromSpace({ level, neededBytes, freeBytes, overcommit }: JobSpace): SpaceMessage {
  return {
    level: toEnum(JobSpace_Level, 'LEVEL', level),
    neededBytes: BigInt(neededBytes),
    freeBytes: freeBytes === undefined ? undefined : BigInt(freeBytes),
    overcommit,
  };
}

export function toSpace({ level, neededBytes, freeBytes, overcommit }: SpaceMessage): JobSpace {
  return {
    level: namedOf(JobSpace_Level, 'LEVEL', level),
    neededBytes: Number(neededBytes),
    ...(freeBytes !== undefined && { freeBytes: Number(freeBytes) }),
    overcommit,
  };
}
