/** The rows of `make bench`: each is measured by a file beside this one, and has a table in docs. */
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
  /** The page of docs that has the table. */
  readonly page: 'performance' | 'scale';
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
    page: 'performance',
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
    name: 'trips',
    page: 'performance',
    load: async () => await import('./trips.ts'),
    heads: ['of a copy of 4 MiB', 'by'],
    peers: ['bare QMP'],
    goals: [
      { what: 'StartCopy answered', by: 'a connected client', unit: 'ms', median: 12 },
      { what: 'READY until the pivot is answered', by: 'a connected client', unit: 'ms', median: 8, most: 40 },
    ],
  },
  {
    name: 'command',
    page: 'performance',
    load: async () => await import('./command.ts'),
    heads: ['`blockjob --version`', 'by'],
    peers: ['`node -e 0`'],
    goals: ['the package', 'a checkout'].flatMap((by) => [
      { what: 'CPU time', by, unit: 's', median: 0.1 },
      { what: 'peak memory', by, unit: 'MB', median: 70 },
    ]),
  },
  {
    name: 'questions',
    page: 'performance',
    load: async () => await import('./questions.ts'),
    heads: ['call', 'by'],
    peers: [
      'query-block-jobs by bare QMP',
      'virDomainGetBlockJobInfo from Python',
      'a gRPC server that sends the same bytes',
    ],
    goals: [
      { what: 'GetInfo, one caller', by: 'this service', unit: 'ms', median: 0.5 },
      ...['one connection', '8 connections'].map((on) => ({
        what: `GetInfo, 64 callers on ${on}`,
        by: 'this service',
        unit: 'calls a second a core',
        median: 7000,
      })),
    ],
  },
  {
    name: 'watchers',
    page: 'performance',
    load: async () => await import('./watchers.ts'),
    heads: ['watchers', 'by'],
    peers: ['bare grpc-js'],
    goals: [
      {
        what: '10000 watchers of one job, 1 messages a second each',
        by: 'blockjobd',
        unit: '% of a core',
        median: 100,
      },
      {
        what: '10000 watchers of one job, 1 messages a second each',
        by: 'blockjobd',
        unit: 'MiB after a minute',
        median: 400,
      },
      {
        what: '2000 watchers of one job, 10 messages a second each',
        by: 'blockjobd',
        unit: 'messages a second of a core',
        median: 60_000,
      },
    ],
  },
  {
    name: 'deep',
    page: 'performance',
    load: async () => await import('./deep.ts'),
    heads: ['images in its chain', 'by'],
    peers: ['bare QMP'],
    goals: [],
  },
  {
    name: 'fleet',
    page: 'scale',
    load: async () => await import('./fleet.ts'),
    heads: ['work, and size of the fleet', 'by'],
    peers: ['with an empty directory', 'the agent directly'],
    goals: [
      { what: 'serves after, 10000 hosts × 50 VMs', by: 'blockjobd gateway', unit: 'ms', median: 8000 },
      { what: 'memory after a minute, 10000 hosts × 50 VMs', by: 'blockjobd gateway', unit: 'MiB', median: 1229 },
      {
        what: 'GetInfo, 1000 hosts × 50 VMs',
        by: 'through a gateway',
        unit: 'ms',
        ratios: { 'the agent directly': 1.5 },
      },
    ],
  },
  {
    name: 'floods',
    page: 'scale',
    load: async () => await import('./floods.ts'),
    heads: ['first client', 'the second client sends'],
    peers: ['nothing'],
    goals: [],
  },
  {
    name: 'journals',
    page: 'scale',
    load: async () => await import('./journals.ts'),
    heads: ['until the first answer', 'in the state folder'],
    peers: ['no journal'],
    goals: [],
  },
  {
    name: 'vms',
    page: 'scale',
    load: async () => await import('./vms.ts'),
    heads: ['VMs of a host', 'by'],
    peers: ['bare QMP'],
    goals: [
      { what: 'time until all are known', by: 'the agent', unit: 's', median: 5 },
      { what: 'memory for each, a minute later', by: 'the agent', unit: 'KiB', median: 250 },
      { what: 'CPU while idle', by: 'the agent', unit: '% of a core', median: 1 },
    ],
  },
  {
    name: 'samples',
    page: 'scale',
    load: async () => await import('./samples.ts'),
    heads: ['100 VMs', 'by'],
    peers: [],
    goals: [{ what: 'with a copy each, nobody watches', by: 'the agent', unit: '% of a core', median: 2 }],
  },
];
