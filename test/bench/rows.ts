/** The rows of `make bench`: each is measured by a file beside this one, and has a table in docs/performance.md. */
import type { Figure } from './figure.ts';

/** The limits of a figure of this service. A rate has to be at least as high; anything else at most. */
export interface Goal {
  readonly what: string;
  readonly by: string;
  readonly unit: string;
  readonly median?: number;
  /** For 99 % of the values. */
  readonly most?: number;
  /** For the median of the ratios to a peer, by peer. */
  readonly ratios?: Readonly<Record<string, number>>;
}

export interface Row {
  /** For `make bench ONLY=`, and for the marks around the table. */
  readonly name: string;
  readonly load: () => Promise<{ readonly measure: () => Promise<readonly Figure[]> }>;
  /** The heads of the first two columns: the `what` and the `by` of the figures. */
  readonly heads: readonly [what: string, by: string];
  /** Some of `by`. All others are compared with each of them. */
  readonly peers: readonly string[];
  readonly goals: readonly Goal[];
}

export const ROWS: readonly Row[] = [
  {
    name: 'copy',
    load: async () => await import('./copy.ts'),
    heads: ['disk', 'by'],
    peers: ['`virsh blockcopy`', 'bare QMP'],
    goals: [
      { what: '64 MiB', by: '`blockjob copy`', unit: 's', ratios: { '`virsh blockcopy`': 0.5 } },
      { what: '1024 MiB', by: '`blockjob copy`', unit: 's', ratios: { '`virsh blockcopy`': 1.1 } },
      { what: '1024 MiB', by: 'a connected client', unit: 's', ratios: { 'bare QMP': 1.03 } },
    ],
  },
  {
    name: 'command',
    load: async () => await import('./command.ts'),
    heads: ['`blockjob --version`', 'by'],
    peers: ['`node -e 0`'],
    goals: ['the package', 'a checkout'].flatMap((by) => [
      { what: 'CPU time', by, unit: 's', median: 0.1 },
      { what: 'peak memory', by, unit: 'MB', median: 70 },
    ]),
  },
  {
    name: 'deep',
    load: async () => await import('./deep.ts'),
    heads: ['images in its chain', 'by'],
    peers: ['bare QMP'],
    goals: [],
  },
  {
    name: 'floods',
    load: async () => await import('./floods.ts'),
    heads: ['first client', 'the second client sends'],
    peers: ['nothing'],
    goals: [],
  },
  {
    name: 'journals',
    load: async () => await import('./journals.ts'),
    heads: ['until the first answer', 'in the state folder'],
    peers: ['no journal'],
    goals: [],
  },
  {
    name: 'vms',
    load: async () => await import('./vms.ts'),
    heads: ['VMs of a host', 'by'],
    peers: ['bare QMP'],
    goals: [
      { what: 'time until all are known', by: 'the agent', unit: 's', median: 5 },
      { what: 'memory for each, a minute later', by: 'the agent', unit: 'KiB', median: 250 },
      { what: 'CPU while idle', by: 'the agent', unit: '% of a core', median: 1 },
    ],
  },
];
