/** The block graphs of all VMs that can be asked: what any of them holds is in use. */
import type { BlockGraph } from '../core/chain.ts';
import { inTime } from '../lib/in-time.ts';
import { fileKey } from './files.ts';
import { presenceOf } from './qemu-process.ts';
import type { VirtualMachine } from './virtual-machine.ts';
import type { VirtualMachines } from './virtual-machines.ts';

export interface DomainGraph {
  readonly domain: string;
  readonly socketPath: string;
  readonly graph: BlockGraph;
}

/** QEMU answers in milliseconds; one that takes longer drains a slow disk, or is stopped. */
export const PATIENCE_MS = 1000;

export async function graphsOf(machines: VirtualMachines): Promise<readonly DomainGraph[]> {
  const graphs = machines.all.map(async (machine) => {
    const now = await inTime(machine.graph(), PATIENCE_MS);
    // One that hangs holds up nobody else; it holds its files all the same, as far as is known. One that has ended does not.
    const holds = now !== undefined || !(await hasEnded(machine));
    const graph = now ?? (holds ? machine.lastGraph : undefined);
    return graph === undefined ? [] : [{ domain: machine.name, socketPath: machine.socketPath, graph }];
  });
  return (await Promise.all(graphs)).flat();
}

/** Of the files, those that no VM has open. */
export async function notHeld<File extends { readonly path: string }>(
  files: readonly File[],
  holder: (path: string) => Promise<string | undefined>,
): Promise<readonly File[]> {
  const found = await Promise.all(files.map(async (file) => ((await holder(file.path)) === undefined ? [file] : [])));
  return found.flat();
}

/** Which node of which VM has this file or device open, by whatever name; undefined: none. */
export async function holderOf(path: string, graphs: readonly DomainGraph[]): Promise<string | undefined> {
  const key = await fileKey(path);
  for (const { domain, graph } of graphs) {
    for (const node of graph.nodes.values()) {
      if ((await fileKey(node.path)) === key) return `node ${node.node} of domain ${domain}`;
    }
  }
  return undefined;
}

async function hasEnded({ lastProcess }: VirtualMachine): Promise<boolean> {
  return lastProcess !== undefined && (await presenceOf(lastProcess)) === 'ENDED';
}
