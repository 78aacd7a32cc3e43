/** The rules of CheckOperation that need nothing but the request: which disks' jobs forbid it. */
import type { CheckOperationRequest, Operation } from '../requests.ts';
import { enumKnown, given, invalid, required, throwIfAny } from './rule.ts';

/** DISK: a job on the disk named, or on any if none is. DOMAIN: a job on any disk, whichever is named. */
const FORBIDDEN_BY: Readonly<Record<Operation, 'DISK' | 'DOMAIN'>> = {
  SAVE: 'DOMAIN',
  SNAPSHOT: 'DISK',
  REVERT: 'DOMAIN',
  DETACH: 'DISK',
  RESIZE: 'DISK',
  MIGRATE: 'DOMAIN',
};

/** The disk whose jobs count; undefined: every disk's. Throws all that is wrong with the request, at once. */
export function parseCheckOperation({ domain, disk, operation: asked }: CheckOperationRequest): string | undefined {
  const operation = given(asked);
  const needsDisk = operation === 'DETACH' || operation === 'RESIZE';
  throwIfAny([
    ...required('domain', domain, 'the name or UUID of a running domain'),
    ...enumKnown('operation', asked),
    ...(asked === undefined ? [invalid('operation', 'is missing; say what is to be done')] : []),
    ...(needsDisk ? required('disk', disk ?? '', 'the disk') : []),
    ...(disk === '' && !needsDisk ? [invalid('disk', 'is empty; name a disk, or leave it out for all')] : []),
  ]);
  return operation !== undefined && FORBIDDEN_BY[operation] === 'DISK' ? disk : undefined;
}
