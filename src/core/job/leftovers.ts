/** The leftovers of ended jobs in a QEMU, and why they cannot be removed now. Pure; the agent handles files. */
import { type BlockGraph, topDown } from '../disk/chain.ts';
import type { QemuJob } from '../qemu/replies.ts';
import { hasEnded } from './job.ts';
import type { KnownJob } from './known-job.ts';
import { jobOf } from './names.ts';

export interface QemuLeftover {
  readonly kind: 'NODE' | 'QEMU_JOB';
  readonly name: string;
  /** The job that made it. */
  readonly job: string;
  readonly text: string;
  /** '' for nothing. */
  readonly blockedBy: string;
}

/** The known facts about jobs. */
export interface KnownJobs {
  readonly of: (job: string) => KnownJob | undefined;
  /** Whether this service may clean it up: jobs of another service leave nothing over here. */
  readonly isOurs: (job: string) => boolean;
}

/**
 * Each node comes before those it uses, so that they can be removed in this order. A running job has no leftovers. A
 * job that was given up while its QEMU was silent may still run there, and has to be cancelled.
 */
export function leftoversIn(
  graph: BlockGraph,
  jobs: readonly QemuJob[],
  { of: knownOf, isOurs }: KnownJobs,
): readonly QemuLeftover[] {
  const ours = (name: string) => {
    const job = jobOf(name);
    if (job === undefined || !isOurs(job)) return undefined;
    const known = knownOf(job);
    return known === undefined || hasEnded(known) ? job : undefined;
  };
  const isGivenUp = (job: string) => knownOf(job)?.concluded?.how === 'GIVEN_UP';
  const kept = jobs.flatMap(({ id, status }): QemuLeftover[] => {
    const job = ours(id);
    if (job === undefined) return [];
    const isFree = status === 'concluded' || isGivenUp(job);
    const blockedBy = isFree ? '' : `it is ${status}; wait until it has concluded`;
    return [
      { kind: 'QEMU_JOB', name: id, job, text: 'QEMU still has this job, and no service looks after it', blockedBy },
    ];
  });
  const used = usedIn(graph);
  const candidates = [...graph.nodes.keys()].filter((node) => ours(node) !== undefined && !used.has(node));
  const withAllBelow = candidates.toReversed().flatMap((node) => topDown(graph, node));
  const order = [...new Set(withAllBelow.toReversed())].toReversed();
  const nodes = order
    .filter((node) => candidates.includes(node))
    .map((node): QemuLeftover => {
      const user = [...graph.children].find(
        ([parent, below]) => !candidates.includes(parent) && below.some((child) => child.node === node),
      );
      const text = 'a node that a job opened, and that no disk and no job uses';
      const blockedBy = user === undefined ? '' : `node ${user[0]} uses it`;
      return { kind: 'NODE', name: node, job: ours(node) ?? '', text, blockedBy };
    });
  return [...kept, ...nodes];
}

/** All nodes that a disk or a job of QEMU needs. */
function usedIn(graph: BlockGraph): ReadonlySet<string> {
  const disks = graph.disks.flatMap(({ filters, chain }) => [...filters, ...chain.map(({ node }) => node)]);
  return new Set([...disks, ...[...graph.jobNodes.values()].flat()].flatMap((node) => topDown(graph, node)));
}
