/** Opens the gate of a READY job: from then on the owner of the VM's configuration can record the new path. */
import { randomUUID } from 'node:crypto';
import type { JobLog } from '../journal/job-log.ts';

/** Without effect if the gate is open, or the job needs none. */
export async function openGate(log: JobLog): Promise<void> {
  await log.offer({ entry: 'gate-opened', token: randomUUID() }, { otherwise: () => undefined });
}
