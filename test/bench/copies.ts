/** Copies with pivot, again and again, by different ways; and the shortest way, that of bare QMP. */
import { rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { present } from '../support/checks.ts';
import type { Qemu } from '../support/real-qemu/qemu.ts';
import type { Contender } from './turns.ts';

const LOOK_MS = 1;

/** A contender whose guest is on the copy of the last time. `copy` makes an image at the path, and pivots to it. */
export function copying(
  by: string,
  first: { readonly dir: string; readonly image: string },
  copy: (path: string) => Promise<readonly number[]>,
): Contender {
  let [image, number] = [first.image, 0];
  const once = async () => {
    number += 1;
    const next = join(first.dir, `${basename(first.image, '.qcow2')}-${number}.qcow2`);
    const values = await copy(next);
    await rm(image);
    image = next;
    return values;
  };
  return { by, once };
}

/** The times of its two parts. */
export interface Trip {
  readonly startedMs: number;
  /** From READY, until QEMU reports that it has pivoted. */
  readonly pivotedMs: number;
}

/** The shortest sequence of commands for `disk0`: without checks, without a journal, without undo. */
export async function copyByBareQmp({ admin }: Qemu, sizeBytes: number, path: string): Promise<Trip> {
  const reached = async (job: string, status: string) => {
    for (;;) {
      const said = admin.events.find(
        ({ event, data }) => event === 'JOB_STATUS_CHANGE' && data['id'] === job && data['status'] === status,
      );
      if (said !== undefined) return said.timeMs - performance.timeOrigin;
      await sleep(LOOK_MS);
    }
  };
  const begun = performance.now();
  const node = basename(path, '.qcow2');
  await writeFile(path, '');
  await admin.execute('blockdev-add', { driver: 'file', 'node-name': `${node}-file`, filename: path });
  const options = { driver: 'qcow2', file: `${node}-file`, size: sizeBytes };
  await admin.execute('blockdev-create', { 'job-id': `make-${node}`, options });
  await reached(`make-${node}`, 'concluded');
  await admin.execute('job-dismiss', { id: `make-${node}` });
  await admin.execute('blockdev-add', { driver: 'qcow2', 'node-name': node, file: `${node}-file` });
  const device = present((await admin.block('disk0')).inserted)['node-name'];
  await admin.execute('blockdev-mirror', { 'job-id': node, device, target: node, sync: 'full' });
  const startedMs = performance.now() - begun;
  await reached(node, 'ready');
  const ready = performance.now();
  await admin.execute('job-complete', { id: node });
  const pivotedMs = (await reached(node, 'concluded')) - ready;
  await reached(node, 'null');
  // An open image keeps its memory and its space on the disk, also after it is removed.
  await admin.execute('blockdev-del', { 'node-name': device });
  await admin.execute('blockdev-del', { 'node-name': `${device}-file` });
  return { startedMs, pivotedMs };
}
