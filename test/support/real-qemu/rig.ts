/** A real guest under load with a service that looks after its VM: the start of the suites of loads and of faults. */
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';
import { ImageFormat, OnReady, PauseGuest } from '../../../generated/blockjob/v1/job.ts';
import { expectWell } from '../checks.ts';
import { Service, type ServiceOptions } from '../service/service.ts';
import { GuestVm, type GuestVmOptions } from './guest-vm.ts';
import { Admin, type ChainImage, testDir } from './qemu.ts';

export type Pause = 'AUTO' | 'ALWAYS' | 'NEVER';

export interface RigOptions extends GuestVmOptions {
  /** More options of the service's command line. */
  readonly args?: readonly string[];
  /** Errors that the service must log. */
  readonly complaints?: RegExp;
}

/** A guest under load, the service, and a connection to QEMU for the test. */
export class Rig implements AsyncDisposable {
  readonly folder: string;
  readonly vm: GuestVm;
  readonly admin: Admin;
  readonly #options: ServiceOptions;
  readonly #complaints: RegExp | undefined;
  readonly #open: AsyncDisposableStack;
  #service: Service;

  private constructor(
    parts: { vm: GuestVm; admin: Admin; options: ServiceOptions; complaints: RegExp | undefined },
    service: Service,
    open: AsyncDisposableStack,
  ) {
    this.folder = parts.options.dir;
    this.vm = parts.vm;
    this.admin = parts.admin;
    this.#options = parts.options;
    this.#complaints = parts.complaints;
    this.#service = service;
    this.#open = open;
  }

  static async start({ args = [], complaints, ...of }: RigOptions): Promise<Rig> {
    await using open = new AsyncDisposableStack();
    const { path: folder } = open.use(await testDir('bj-load-'));
    const vm = open.use(await GuestVm.start({ ...of, name: 'web1' }));
    const admin = open.adopt(await Admin.connect(connect(vm.checkerQmpPath), () => ''), (one) => one.close());
    const options = { dir: folder, qmp: { web1: vm.qmpPath }, allow: [folder], args };
    const service = await Service.start(options);
    await service.domainUp('web1');
    return new Rig({ vm, admin, options, complaints }, service, open.move());
  }

  get service(): Service {
    return this.#service;
  }

  /** The service is killed, and another one takes up its jobs. */
  async restart(): Promise<void> {
    await this.#service.kill();
    this.#service = await Service.start(this.#options);
    await this.#service.domainUp('web1');
  }

  image(name: string, format: ChainImage['format']): ChainImage {
    return { path: join(this.folder, `${name}.${format}`), format };
  }

  async copy(
    disk: number,
    to: ChainImage,
    options: { onReady?: OnReady; pause?: Pause; limit?: bigint } = {},
  ): Promise<string> {
    const format = to.format === 'raw' ? ImageFormat.IMAGE_FORMAT_RAW : ImageFormat.IMAGE_FORMAT_QCOW2;
    const { id } = await this.service.startCopy({
      disk: { domain: 'web1', disk: this.vm.deviceId(disk) },
      destination: { target: { $case: 'file', value: to.path }, format },
      onReady: options.onReady ?? OnReady.ON_READY_HOLD,
      pauseGuest: PauseGuest[`PAUSE_GUEST_${options.pause ?? 'AUTO'}`],
      bandwidthBytesPerSecond: options.limit ?? 0n,
      granularityBytes: 4096n,
    });
    return id;
  }

  async abort(id: string, pivot?: Pause): Promise<void> {
    const job = { name: { $case: 'jobId', value: id } } as const;
    const pauseGuest = PauseGuest[`PAUSE_GUEST_${pivot ?? 'UNSPECIFIED'}`];
    await this.service.abort({ job, pivot: pivot !== undefined, pauseGuest });
  }

  /** The number of times that QEMU has stopped the guest's CPUs. */
  guestStops(): number {
    return this.admin.events.filter(({ event }) => event === 'STOP').length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      expectWell(this.#service, this.#complaints);
    } finally {
      await this.#service.stop();
      await this.#open.disposeAsync();
    }
  }
}

export function topOf(vm: GuestVm, disk: number): ChainImage {
  const top = vm.images(disk).at(-1);
  if (top === undefined) throw new Error(`disk ${disk} has no image`);
  return top;
}

/** The file below the guest's disk, also if QEMU has a layer over it that injects faults. */
async function fileOf({ vm, admin }: Rig, disk: number): Promise<string | undefined> {
  const name = (await admin.block(vm.deviceId(disk))).inserted?.image.filename;
  return /^json:.*"driver": "blkdebug"/.test(name ?? '') ? /"filename": "(.*?)"/.exec(name ?? '')?.[1] : name;
}

/** The guest is on this image, which has all expected writes, and has seen no error itself; no job is left. */
export async function expectRight(rig: Rig, disk: number, { path: image, format }: ChainImage): Promise<void> {
  const { vm, admin } = rig;
  expect(await fileOf(rig, disk)).toBe(image);
  expect(await admin.execute('query-jobs')).toEqual([]);
  expect(await admin.execute('query-status')).toMatchObject({ status: 'running' });
  const found = await vm.check(disk, { image, format, live: true });
  expect(found).toMatchObject({ ok: true, lost: 0, guest_errors: 0, guest_bad_reads: 0, text: '' });
  expect(found.acked_ops).toBeGreaterThan(0);
}
