/**
 * How a QEMU shows that libvirt manages it: by names that libvirt gives, and that nobody else has a reason to give. Its
 * monitor has had this one in each version; nodes have theirs since libvirt 5.10. That libvirt is connected now proves
 * nothing, as it comes back. A command line would tell no more, and QEMU does not tell that.
 */
import { list, text } from './replies.ts';

const MONITOR = 'charmonitor';
const NODE = /^libvirt-\d+-(?:format|storage)$/;

/** In words; undefined: nothing shows it. `chardevs`: what query-chardev returned. */
export function signOfLibvirt(chardevs: unknown, nodes: Iterable<string>): string | undefined {
  const hasMonitor = list(chardevs, 'query-chardev').some(({ label }) => text(label) === MONITOR);
  if (hasMonitor) return `the chardev ${MONITOR}`;
  const node = [...nodes].find((name) => NODE.test(name));
  return node === undefined ? undefined : `the node ${node}`;
}
