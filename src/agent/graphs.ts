/** The block graphs of all VMs that can be asked: what any of them holds is in use. */
import { readdir } from 'node:fs/promises';
import type { BlockGraph } from '../core/chain.ts';
import { inTime } from '../lib/in-time.ts';
import { fileKey } from './files.ts';
import { findListener, presenceOf } from './qemu-process.ts';
import type { VirtualMachine } from './virtual-machine.ts';
import type { VirtualMachines } from './virtual-machines.ts';

export interface DomainGraph {
  readonly domain: string;
  readonly socketPath: string;
  /** Of a QEMU that has never been asked it is empty. */
  readonly graph: BlockGraph;
  /** What such a one has open, as file keys, or that nobody can tell. */
  readonly opens?: ReadonlySet<string> | 'UNKNOWN';
}

/** QEMU answers in milliseconds; one that takes longer drains a slow disk, or is stopped. */
export const PATIENCE_MS = 1000;

export async function graphsOf(machines: VirtualMachines): Promise<readonly DomainGraph[]> {
  const graphs = machines.all.map(async (machine): Promise<DomainGraph[]> => {
    const { name: domain, socketPath, lastGraph } = machine;
    const now = await inTime(machine.graph(), PATIENCE_MS);
    if (now !== undefined) return [{ domain, socketPath, graph: now }];
    // One that hangs holds up nobody else; it holds its files all the same, as far as is known. One that has ended does not.
    if (await hasEnded(machine)) return [];
    if (lastGraph !== undefined) return [{ domain, socketPath, graph: lastGraph }];
    return machine.nobodyListens
      ? []
      : [{ domain, socketPath, graph: NO_GRAPH, opens: await openedBehind(socketPath) }];
  });
  return (await Promise.all(graphs)).flat();
}

const NO_GRAPH: BlockGraph = { disks: [], nodes: new Map(), children: new Map(), jobNodes: new Map() };

/** What the process that listens there has open, where /proc shows it. */
async function openedBehind(socketPath: string): Promise<ReadonlySet<string> | 'UNKNOWN'> {
  const pid = (await findListener(socketPath))?.process.pid;
  const descriptors = pid === undefined ? undefined : await readdir(`/proc/${pid}/fd`).catch(() => undefined);
  if (descriptors === undefined) return 'UNKNOWN';
  return new Set(await Promise.all(descriptors.map(async (one) => await fileKey(`/proc/${pid}/fd/${one}`))));
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
  for (const { domain, graph, opens } of graphs) {
    const mayHold = opens === 'UNKNOWN' ? key !== path : opens?.has(key) === true;
    if (mayHold) return `domain ${domain}, whose QEMU cannot be asked`;
    for (const node of graph.nodes.values()) {
      if ((await fileKey(node.path)) === key) return `node ${node.node} of domain ${domain}`;
    }
  }
  return undefined;
}

async function hasEnded({ lastProcess }: VirtualMachine): Promise<boolean> {
  return lastProcess !== undefined && (await presenceOf(lastProcess)) === 'ENDED';
}
