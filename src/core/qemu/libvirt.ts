/**
 * The signs in a QEMU that libvirt manages it: names that no other client has a reason to give. libvirt's monitor has
 * had this name in every version, its nodes have theirs since libvirt 5.10. Whether libvirt is connected now does not
 * matter, because it connects again. QEMU does not report its command line, which would not say more.
 */
import { list, text } from './replies.ts';

const MONITOR = 'charmonitor';
const NODE = /^libvirt-\d+-(?:format|storage)$/;

/** The sign in words; undefined if there is none. `chardevs`: the answer to query-chardev. */
export function signOfLibvirt(chardevs: unknown, nodes: Iterable<string>): string | undefined {
  const hasMonitor = list(chardevs, 'query-chardev').some(({ label }) => text(label) === MONITOR);
  if (hasMonitor) return `the chardev ${MONITOR}`;
  const node = [...nodes].find((name) => NODE.test(name));
  return node === undefined ? undefined : `the node ${node}`;
}
