/** The block graphs of all VMs that can be asked: all files in them are in use. */
import type { BlockGraph } from '../../core/disk/chain.ts';
import type { LaterJobs } from '../../core/job/later-jobs.ts';
import { inTime } from '../../lib/timer.ts';
import { type FileIdentity, fileNamesOf, identify, overlaps } from '../host/file-identity.ts';
import { isLocked, isOpen, type OpenFiles, openFilesOf, type SoughtFile, soughtAt } from '../host/open-files.ts';
import { fileLocks } from '../host/proc.ts';
import { findListener, processPresence } from './qemu-process.ts';
import type { VirtualMachine } from './virtual-machine.ts';
import type { VirtualMachines } from './virtual-machines.ts';

export interface DomainGraph {
  readonly domain: string;
  /** A holder that the caller may not read: the answer says that there is one, and not which. */
  readonly isHidden?: true;
  readonly socketPath: string;
  /** Empty for a QEMU that has never been asked. */
  readonly graph: BlockGraph;
  /** The files that it has open, under any name, if /proc shows them. UNKNOWN if not, and if it has never been asked. */
  readonly opens: OpenFiles | 'UNKNOWN' | undefined;
}

/** QEMU answers in milliseconds; a slower one drains a slow disk, or is stopped. */
export const QEMU_ANSWERS_MS = 1000;

/** `known`: the present graph of one of them, which is not asked again. */
export async function graphsOf(
  machines: VirtualMachines,
  known?: { readonly machine: VirtualMachine; readonly graph: BlockGraph },
): Promise<readonly DomainGraph[]> {
  const graphs = machines.all.map(async (machine): Promise<DomainGraph[]> => {
    const { name: domain, socketPath, lastGraph } = machine;
    const now = machine === known?.machine ? known.graph : await inTime(machine.graph(), QEMU_ANSWERS_MS);
    if (now !== undefined) return [{ domain, socketPath, graph: now, opens: machine.openFiles() }];
    // A hanging QEMU does not delay the others, and still holds its files. One that has ended does not.
    if (await machineHasEnded(machine)) return [];
    if (lastGraph !== undefined) return [{ domain, socketPath, graph: lastGraph, opens: machine.openFiles() }];
    return machine.nobodyListens
      ? []
      : [{ domain, socketPath, graph: NO_GRAPH, opens: (await openedBehind(socketPath)) ?? 'UNKNOWN' }];
  });
  return (await Promise.all(graphs)).flat();
}

const NO_GRAPH: BlockGraph = { disks: [], nodes: new Map(), children: new Map(), jobNodes: new Map() };

/** The files that the listening process has open, if /proc shows them. */
async function openedBehind(socketPath: string): Promise<OpenFiles | undefined> {
  const pid = (await findListener(socketPath))?.process.pid;
  return pid === undefined ? undefined : openFilesOf(pid);
}

/** The holder of the file or device at a path; undefined if none is known. */
export type Holders = (path: string) => Promise<string | undefined>;

/**
 * The node and VM that have it open, under any name, or another process that has locked it; for as many paths as given.
 * `locks`: as fileLocks reports them, at once or before.
 */
export function holderAmong(graphs: readonly DomainGraph[], locks = fileLocks()): Holders {
  const look = lookOnce();
  return async (path) => {
    const sought = await soughtAt(path);
    const by = await domainHaving(path, sought, graphs, look);
    if (by !== undefined) return by;
    return sought !== undefined && isLocked(sought, await locks)
      ? 'a process of this host that has locked it'
      : undefined;
  };
}

type Look = (path: string) => Promise<FileIdentity | undefined>;

/** The file at each path, looked up once: for one answer about many files, which takes no longer than that. */
export function lookOnce(): Look {
  const seen = new Map<string, Promise<FileIdentity | undefined>>();
  return async (path) => {
    const known = seen.get(path) ?? identify(path);
    seen.set(path, known);
    return await known;
  };
}

/** Like holderAmong, for those VMs alone. */
export async function domainWith(
  path: string,
  graphs: readonly DomainGraph[],
  look: Look = identify,
): Promise<string | undefined> {
  return await domainHaving(path, await soughtAt(path), graphs, look);
}

/** A file of another host is known by its name alone. */
async function domainHaving(
  path: string,
  sought: SoughtFile | undefined,
  graphs: readonly DomainGraph[],
  look: Look,
): Promise<string | undefined> {
  for (const one of graphs) {
    const by = await whereOf(path, sought, one, look);
    if (by !== undefined) return one.isHidden ? HIDDEN : by;
  }
  return undefined;
}

const HIDDEN = 'another domain';

async function whereOf(
  path: string,
  sought: SoughtFile | undefined,
  { domain, graph, opens }: DomainGraph,
  look: Look,
): Promise<string | undefined> {
  const unasked = `domain ${domain}, whose QEMU cannot be asked`;
  if (opens === 'UNKNOWN') return sought === undefined ? undefined : unasked;
  const node =
    sought === undefined
      ? [...graph.nodes.values()].find((one) => one.path === path)?.node
      : await nodeWith(sought.identity, graph, look);
  if (node !== undefined) return `node ${node} of domain ${domain}`;
  if (sought === undefined || opens === undefined || !(await isOpen(opens, sought))) return undefined;
  return graph === NO_GRAPH ? unasked : `domain ${domain}, under another name`;
}

/** The node of this file or device, or of one that overlaps it. */
export async function nodeWith(
  file: FileIdentity,
  { nodes }: Pick<BlockGraph, 'nodes'>,
  look: Look = identify,
): Promise<string | undefined> {
  for (const { node, path } of nodes.values()) {
    const found = await look(path);
    if (found !== undefined && overlaps(found, file)) return node;
  }
  return undefined;
}

/** The VM that may write to this file or device, under any name. */
export async function domainThatWrites(
  sought: SoughtFile,
  graphs: readonly DomainGraph[],
): Promise<string | undefined> {
  for (const { domain, isHidden, graph, opens } of graphs) {
    if (opens === 'UNKNOWN') continue;
    // QEMU may have opened a node with another mode than it reports: the kernel decides.
    const files = opens?.files.filter(({ isWritable }) => isWritable);
    const writable = new Map([...graph.nodes].filter(([, { readOnly }]) => !readOnly));
    const writes = files
      ? await isOpen({ files }, sought)
      : (await nodeWith(sought.identity, { nodes: writable })) !== undefined;
    if (writes) return isHidden ? HIDDEN : `domain ${domain}`;
  }
  return undefined;
}

export async function machineHasEnded({ lastProcess }: VirtualMachine): Promise<boolean> {
  return lastProcess !== undefined && (await processPresence(lastProcess)) === 'ENDED';
}

/** The owner of a file now, out of the VMs and the later jobs. */
export async function holderSince(job: string, machines: VirtualMachines, later: () => LaterJobs): Promise<Holders> {
  const locks = fileLocks();
  return orLaterJob(holderAmong(await graphsOf(machines), locks), job, later());
}

/**
 * `holder`, or a job that was begun after `job`: it owns the files of its disk and of its copy, also while its VM is off
 * and no process has them open.
 */
export function orLaterJob(holder: Holders, job: string, later: LaterJobs): Holders {
  return async (path) => {
    const by = await holder(path);
    if (by !== undefined) return by;
    const user = later.withFile(job, await fileNamesOf(path));
    return user === undefined ? undefined : usedBy(user);
  };
}

export function usedBy(job: string): string {
  return `job ${job}, which has used it since`;
}
