/** Which kind of device a disk is to the guest. */
import { Refused } from '../../qmp/errors.ts';
import type { VirtualMachine } from './virtual-machine.ts';

/** The device's QOM type, as virtio-blk-pci; undefined where QEMU does not tell. */
export async function deviceTypeOf(
  machine: Pick<VirtualMachine, 'execute'>,
  qdev: string,
): Promise<string | undefined> {
  const path = pathOf(qdev).replace(/\/virtio-backend$/, '');
  const command = { execute: 'qom-get', arguments: { path, property: 'type' } } as const;
  const type = await machine.execute(command).catch(() => undefined);
  return typeof type === 'string' ? type : undefined;
}

/** Has it an option to let others write? What has none, as a flash chip, leaves it open whether they do. */
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
