/** The rules of CheckOperation that need only the request: the disks whose jobs forbid the operation. */
import type { CheckOperationRequest, Operation } from '../requests.ts';
import { enumKnown, given, invalid, required, throwIfAny } from './rule.ts';

/** DISK: a job on the named disk, or on any disk if none is named. DOMAIN: a job on any disk, whichever is named. */
const FORBIDDEN_BY: Readonly<Record<Operation, 'DISK' | 'DOMAIN'>> = {
  SAVE: 'DOMAIN',
  SNAPSHOT: 'DISK',
  REVERT: 'DOMAIN',
  DETACH: 'DISK',
  RESIZE: 'DISK',
  MIGRATE: 'DOMAIN',
};

/** The disk whose jobs count; undefined for all disks. Throws all violations of the request together. */
export function parseCheckOperation({ domain, disk, operation: asked }: CheckOperationRequest): string | undefined {
  const operation = given(asked);
  const needsDisk = operation === 'DETACH' || operation === 'RESIZE';
  throwIfAny([
    ...required('domain', domain, 'the name or UUID of a running domain'),
    ...enumKnown('operation', asked),
    ...(asked === undefined ? [invalid('operation', 'is missing; name the operation')] : []),
    ...(needsDisk ? required('disk', disk ?? '', 'the disk') : []),
    ...(disk === '' && !needsDisk ? [invalid('disk', 'is empty; name a disk, or leave it out for all disks')] : []),
  ]);
  return operation !== undefined && FORBIDDEN_BY[operation] === 'DISK' ? disk : undefined;
}
