/** The VMs of this host as callers see them. */
import type { Call, Checked, Domain, DomainDisk } from '../../core/block-jobs.ts';
import { findDisk } from '../../core/disk/chain.ts';
import { fail, failure } from '../../core/errors.ts';
import type { JobView } from '../../core/job/job-view.ts';
import { guestStateOf } from '../../core/qemu/guest-state.ts';
import type { CheckOperationRequest } from '../../core/requests.ts';
import { may, mayRead } from '../../core/rights.ts';
import { parseCheckOperation } from '../../core/rules/check-operation.ts';
import { inTime } from '../../lib/timer.ts';
import type { JobTable } from '../job/job-table.ts';
import { whyMoved } from '../job/managed.ts';
import type { JobLog } from '../journal/job-log.ts';
import { deviceTypeOf } from '../qemu/device-type.ts';
import { QEMU_ANSWERS_MS } from '../qemu/graphs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';
import { allBusy, busyOn } from '../starts/busy.ts';

export class Domains {
  readonly #host: string;
  readonly #machines: VirtualMachines;
  readonly #jobs: JobTable;

  constructor(host: string, machines: VirtualMachines, jobs: JobTable) {
    this.#host = host;
    this.#machines = machines;
    this.#jobs = jobs;
  }

  async list(call: Call): Promise<readonly Domain[]> {
    const readable = this.#machines.domains.filter(({ name }) => may(call, 'read', name));
    return await Promise.all(readable.map(async (machine) => await this.#domain(machine)));
  }

  async get(
    name: string,
    call: Call,
    view: (log: JobLog) => JobView,
  ): Promise<{ domain: Domain; disks: readonly DomainDisk[] }> {
    const machine = this.#machines.get(name, call);
    const disks = await machine.asking(async () => {
      const graph = await machine.graph();
      return await Promise.all(
        graph.disks.map(async (disk) => {
          const log = this.#jobs.activeOn(machine, disk.qdev);
          const deviceType = await deviceTypeOf(machine, disk.qdev);
          return { disk, deviceType, activeJob: log && mayRead(call, log.job) ? view(log) : undefined };
        }),
      );
    });
    return { domain: await this.#domain(machine), disks };
  }

  async #domain(machine: VirtualMachine): Promise<Domain> {
    const { identity, name, uuid } = machine;
    const host = this.#host;
    if (identity === undefined) {
      const why = failure('QEMU_UNREACHABLE', { domain: name, why: machine.trouble });
      return { name, uuid, host, connection: { up: false, why } };
    }
    const runState = await inTime(machine.runState(), QEMU_ANSWERS_MS);
    const guestState = runState === undefined ? undefined : guestStateOf(runState);
    const { qemuVersion, facts } = identity;
    return { name, uuid, host, connection: { up: true, qemuVersion, qemuPid: facts?.process.pid, guestState } };
  }

  async checkOperation(request: CheckOperationRequest, call: Call, view: (log: JobLog) => JobView): Promise<Checked> {
    const address = parseCheckOperation(request);
    const machine = this.#machines.get(request.domain, call);
    return await machine.asking(async () => {
      const [graph, jobs] = await Promise.all([machine.graph(), machine.jobs()]);
      const named = request.disk ?? address;
      const disk = named === undefined ? undefined : findDisk(graph, named);
      if (named !== undefined && disk === undefined) fail('DISK_NOT_FOUND', { domain: request.domain, disk: named });
      const site = { machine, table: this.#jobs, jobs };
      const one = address === undefined ? undefined : disk;
      const busy = one === undefined ? allBusy(graph, site) : [busyOn(one, site) ?? []].flat();
      const moved = await whyMoved(one === undefined ? graph.disks : [one], { machine, graph, table: this.#jobs });
      const ours = busy.flatMap((found) => found.ours ?? []).filter((log) => mayRead(call, log.job));
      return {
        reasons: [...busy.map(({ why }) => why), ...(moved === undefined ? [] : [moved])],
        blocking: ours.map(view),
      };
    });
  }
}
