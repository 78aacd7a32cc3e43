/** The block graphs of all VMs that can be asked: what any of them holds is in use. */
import type { BlockGraph } from '../core/chain.ts';
import type { VirtualMachines } from './virtual-machines.ts';

export interface DomainGraph {
  readonly domain: string;
  readonly graph: BlockGraph;
}

export async function graphsOf(machines: VirtualMachines): Promise<readonly DomainGraph[]> {
  const up = machines.all.filter((machine) => machine.identity !== undefined);
  const graphs = up.map(async (machine) => {
    // One that is lost while it is asked holds its files all the same: QEMU's own locks are the last word.
    const graph = await machine.graph().catch(() => undefined);
    return graph === undefined ? [] : [{ domain: machine.name, graph }];
  });
  return (await Promise.all(graphs)).flat();
}
