/** Which kind of device a disk is to the guest. */
import type { VirtualMachine } from './virtual-machine.ts';

/** The device's QOM type, as virtio-blk-pci; undefined where QEMU does not tell. */
export async function deviceTypeOf(
  machine: Pick<VirtualMachine, 'execute'>,
  qdev: string,
): Promise<string | undefined> {
  const path = qdev.startsWith('/') ? qdev.replace(/\/virtio-backend$/, '') : `/machine/peripheral/${qdev}`;
  const command = { execute: 'qom-get', arguments: { path, property: 'type' } } as const;
  const type = await machine.execute(command).catch(() => undefined);
  return typeof type === 'string' ? type : undefined;
}
