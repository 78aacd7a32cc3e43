/** A copy on a real QEMU, brought to the state in which other clients act. */
import { join } from 'node:path';
import type { Job, Job_State, OnReady } from '../../../generated/blockjob/v1/job.ts';
import { eventually, graphOf } from '../checks.ts';
import type { Machine, MachineOptions, Site } from './bench-qemu.ts';
import { within } from './qemu.ts';

/** The time within which an action of others shows. */
export const SOON_MS = 20_000;

/** A command that another client sends. */
export type Act = readonly [command: string, args: Record<string, unknown>];

export interface MetCopy extends AsyncDisposable {
  readonly machine: Machine;
  readonly job: Job;
  readonly path: string;
  execute(...acts: readonly Act[]): Promise<void>;
  /** QEMU has the result, and nobody has dismissed it. */
  concluded(): Promise<void>;
  /** Soon. */
  until(state: keyof typeof Job_State): Promise<void>;
  ended(): Promise<Job>;
}

export interface MetCopyOptions extends MachineOptions {
  readonly onReady?: OnReady;
}

/** When RUNNING, it would take a minute; the guest has written to its disk meanwhile, and after READY. */
export async function metCopy(site: Site, at: 'RUNNING' | 'READY', options: MetCopyOptions = {}): Promise<MetCopy> {
  const { service } = site;
  const { onReady, ...rest } = options;
  const machine = await site.machine(rest);
  const { disk, dir, guest, qemu } = machine;
  const path = join(dir, 'copy');
  const destination = { target: { $case: 'file', value: path } } as const;
  const job = await service.startCopy({
    disk,
    destination,
    bandwidthBytesPerSecond: 65_536n,
    ...(onReady === undefined ? {} : { onReady }),
  });
  await guest.write(0);
  if (at === 'READY') {
    await service.setSpeed(job.id, 0n);
    await service.until(job.id, 'STATE_READY');
    await guest.write(1);
  }
  return {
    machine,
    job,
    path,
    execute: async (...acts) => {
      for (const [command, args] of acts) await qemu.admin.execute(command, args);
    },
    concluded: async () => {
      await eventually('QEMU concludes the job', async () =>
        (await graphOf(qemu.admin)).jobs.includes(`${job.id} mirror concluded`) ? true : undefined,
      );
    },
    until: async (state) => void (await within(SOON_MS, state, site.service.until(job.id, state))),
    ended: async () => await within(SOON_MS, 'the end of the job', site.ended(job)),
    [Symbol.asyncDispose]: async () => await machine[Symbol.asyncDispose](),
  };
}

export function snapshotOf(node: string, dir: string): Act {
  const image = { 'snapshot-file': join(dir, 'snapshot'), 'snapshot-node-name': 'snapshot' };
  return ['blockdev-snapshot-sync', { 'node-name': node, ...image }];
}
