/** The gate of a pivot: message ↔ core type. */
import type { PivotGate } from '../../generated/blockjob/v1/job.ts';
import type { ShownGate } from '../core/job/job-view.ts';
import { defined } from '../lib/defined.ts';

export function fromShownGate({ token, nextStartPath, openTime, recordTime }: ShownGate): PivotGate {
  const recorded = recordTime === undefined ? undefined : new Date(recordTime);
  return { token, nextStartPath, openTime: new Date(openTime), recordTime: recorded };
}

export function toShownGate({ token, nextStartPath, openTime, recordTime }: PivotGate): ShownGate {
  const times = defined({ recordTime: recordTime?.toISOString() });
  return { token, nextStartPath, openTime: openTime?.toISOString() ?? '', ...times };
}
