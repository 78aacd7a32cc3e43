/** The secrets in a QEMU, by their ids. Their keys stay in QEMU, and are never asked for. */
import { fail } from '../../core/errors.ts';
import { readObjects } from '../../core/qemu/replies.ts';
import type { VirtualMachine } from './virtual-machine.ts';

/** Its own type, and `secret_keyring`. */
const IS_SECRET = /^secret(_|$)/;

/** Throws SECRET_NOT_FOUND for any other object. */
export async function requireSecret(
  secretId: string,
  machine: Pick<VirtualMachine, 'name' | 'execute'>,
): Promise<void> {
  const reply = await machine.execute({ execute: 'qom-list', arguments: { path: '/objects' } });
  const type = readObjects(reply).get(secretId);
  if (type !== undefined && IS_SECRET.test(type)) return;
  const why = type === undefined ? 'it has no object with that id' : `that object is of type ${type}`;
  fail('SECRET_NOT_FOUND', { secretId, domain: machine.name, why });
}
