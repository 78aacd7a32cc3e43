/** VMs that libvirt manages. It does not notice other clients' changes, and continues with the images that it knows. */
import type { BlockGraph, Disk } from '../../core/disk/chain.ts';
import { type Failure, fail, failure } from '../../core/errors.ts';
import { signOfLibvirt } from '../../core/qemu/libvirt.ts';
import { compareProcesses } from '../qemu/qemu-process.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { JobTable } from './job-table.ts';

/** QEMU's character devices: libvirt's monitor is one of them. */
export async function chardevsOf(machine: VirtualMachine): Promise<unknown> {
  return await machine.execute({ execute: 'query-chardev' });
}

async function signIn(machine: VirtualMachine, { nodes }: Pick<BlockGraph, 'nodes'>): Promise<string | undefined> {
  return signOfLibvirt(await chardevsOf(machine), nodes.keys());
}

/** By the known names, without a look at the nodes now. */
export async function isManaged(machine: VirtualMachine): Promise<boolean> {
  const nodes: BlockGraph['nodes'] = machine.lastGraph?.nodes ?? new Map();
  return (await signIn(machine, { nodes })) !== undefined;
}

/** Throws MANAGED_BY_LIBVIRT. */
export function refuseManaged({ name: domain }: VirtualMachine, { nodes }: BlockGraph, chardevs: unknown): void {
  const sign = signOfLibvirt(chardevs, nodes.keys());
  const why = 'it would not know of this job, and the guest would get the old image after a save or a migration';
  if (sign !== undefined) fail('MANAGED_BY_LIBVIRT', { domain, sign, why });
}

/** MANAGED_BY_LIBVIRT if libvirt does not know the image of one of the disks, and would do the operation. */
export async function whyMoved(
  disks: readonly Disk[],
  { machine, graph, table }: { readonly machine: VirtualMachine; readonly graph: BlockGraph; readonly table: JobTable },
): Promise<Failure | undefined> {
  const moved = disks.find((disk) => isMoved(disk, machine, table));
  const sign = moved && (await signIn(machine, graph));
  if (moved === undefined || sign === undefined) return undefined;
  const why = `it does not know that disk ${moved.id} is on ${moved.chain[0]?.path}: it would fail, or the guest would continue with the old image`;
  return failure('MANAGED_BY_LIBVIRT', { domain: machine.name, sign, why });
}

/** A job of ours has moved it, in this very QEMU as far as is known. */
function isMoved(
  { qdev }: Disk,
  machine: VirtualMachine,
  { known: { newestFirst } }: Pick<JobTable, 'known'>,
): boolean {
  const now = machine.identity?.facts?.process;
  return newestFirst.some(({ ended, known: { accepted, outcome } }) => {
    const { domain, domainUuid, process, source } = accepted;
    if (!ended || accepted.qdev !== qdev || !machine.answersTo(domainUuid ?? domain)) return false;
    return compareProcesses(process, now) !== 'OTHER' && outcome.guestWritesTo !== source.path;
  });
}
