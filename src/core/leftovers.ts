/** What a QEMU still holds of jobs that are over, and why it cannot be taken away now. Pure; files are the agent's. */
import { type BlockGraph, topDown } from './chain.ts';
import type { QemuJob } from './qemu/replies.ts';

export interface QemuLeftover {
  readonly kind: 'NODE' | 'QEMU_JOB';
  readonly name: string;
  /** The job that made it. */
  readonly job: string;
  readonly text: string;
  /** '' for nothing. */
  readonly blockedBy: string;
}

/** Each node before those it uses, so that they can be taken away in this order. `isActive`: of a job that goes on. */
export function leftoversIn(
  graph: BlockGraph,
  jobs: readonly QemuJob[],
  isActive: (job: string) => boolean,
): readonly QemuLeftover[] {
  const ours = (name: string) => {
    const job = /^bj[0-9a-f]{16}(?=-|$)/.exec(name)?.[0];
    return job !== undefined && !isActive(job) ? job : undefined;
  };
  const kept = jobs.flatMap(({ id, status }): QemuLeftover[] => {
    const job = ours(id);
    if (job === undefined) return [];
    const blockedBy = status === 'concluded' ? '' : `it is ${status}; wait until it has concluded`;
    return [{ kind: 'QEMU_JOB', name: id, job, text: 'QEMU keeps this job, and nobody looks after it', blockedBy }];
  });
  const used = usedIn(graph);
  const candidates = [...graph.nodes.keys()].filter((node) => ours(node) !== undefined && !used.has(node));
  const order = [
    ...new Set(
      candidates
        .toReversed()
        .flatMap((node) => topDown(graph, node))
        .toReversed(),
    ),
  ].toReversed();
  const nodes = order
    .filter((node) => candidates.includes(node))
    .map((node): QemuLeftover => {
      const user = [...graph.children].find(
        ([parent, below]) => !candidates.includes(parent) && below.some((child) => child.node === node),
      );
      const text = 'a node that a job opened, and that no disk and no job uses';
      return {
        kind: 'NODE',
        name: node,
        job: ours(node) ?? '',
        text,
        blockedBy: user ? `node ${user[0]} uses it` : '',
      };
    });
  return [...kept, ...nodes];
}

/** All that a disk or a job of QEMU needs. */
function usedIn(graph: BlockGraph): ReadonlySet<string> {
  const disks = graph.disks.flatMap(({ filters, chain }) => [...filters, ...chain.map(({ node }) => node)]);
  return new Set([...disks, ...[...graph.jobNodes.values()].flat()].flatMap((node) => topDown(graph, node)));
}
