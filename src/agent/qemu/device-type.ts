/** The type of a disk's device. */
import { Refused } from '../../qmp/errors.ts';
import type { VirtualMachine } from './virtual-machine.ts';

/** The device's QOM type, for example virtio-blk-pci; undefined if QEMU does not report it. */
export async function deviceTypeOf(
  machine: Pick<VirtualMachine, 'execute'>,
  qdev: string,
): Promise<string | undefined> {
  const path = pathOf(qdev).replace(/\/virtio-backend$/, '');
  const command = { execute: 'qom-get', arguments: { path, property: 'type' } } as const;
  const type = await machine.execute(command).catch(() => undefined);
  return typeof type === 'string' ? type : undefined;
}

/** Whether it has the option share-rw. A device without it, like a flash chip, does not say whether others write. */
export async function mayShareWrites(machine: Pick<VirtualMachine, 'execute'>, qdev: string): Promise<boolean> {
  const command = { execute: 'qom-get', arguments: { path: pathOf(qdev), property: 'share-rw' } } as const;
  try {
    await machine.execute(command);
    return true;
  } catch (error) {
    if (error instanceof Refused) return !/property .* not found/i.test(error.desc);
    throw error;
  }
}

function pathOf(qdev: string): string {
  return qdev.startsWith('/') ? qdev : `/machine/peripheral/${qdev}`;
}
