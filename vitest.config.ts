import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The longest files, the longest first: begun last, one would run on alone when all else is over. */
const LONG = [
  'chaos/chaos',
  'qemu/guest-load',
  'page/views',
  'qemu/any-request',
  'demo/demo',
  'qemu/storage-faults',
  'fault/prefixes',
  'qemu/encrypted',
  'qemu/golden-rebase',
  'qemu/golden-other',
  'graphs/graphs',
  'packages/packages',
  'containers/etcd',
  'containers/agents',
];

/** Then by project: most files of the last ones take a second, and fill what the others leave of the workers' time. */
const SHORT_LAST = ['page', 'packages', 'containers', 'qemu', 'etcd', 'unit'];

/** Two cores do three files at a time: each waits for a third of its time. Vitest wants one number for all that runs side by side. */
const WORKERS = 3;

/** Services are started as bundles. */
const BUNDLE = 'test/support/service/bundle.ts';

/** No error that is made has prose in its metadata. */
const NO_PROSE = 'test/support/no-prose.ts';

/** Of a fleet's tests, which mostly wait for leases to run out, when nothing else is running. */
const WAITING_WORKERS = 4;

function rank({ moduleId, project }: TestSpecification): number {
  const at = LONG.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
  return at === -1 ? LONG.length + SHORT_LAST.indexOf(project.name) : at;
}

function group({ project }: TestSpecification): number {
  return project.config.sequence.groupOrder;
}

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return await Promise.resolve(files.toSorted((a, b) => group(a) - group(b) || rank(a) - rank(b)));
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: 'unit',
          setupFiles: NO_PROSE,
          include: [
            'test/unit/**/*.test.ts',
            'test/story/**/*.test.ts',
            'test/fault/**/*.test.ts',
            'test/deploy/**/*.test.ts',
          ],
          globalSetup: BUNDLE,
          testTimeout: 30_000,
          maxWorkers: WORKERS,
          // Tests that run at once wait for most of their time: for a connection that is tried again.
          maxConcurrency: 12,
        },
      },
      {
        test: {
          // Real QEMUs and real guests.
          name: 'qemu',
          setupFiles: NO_PROSE,
          include: [
            'test/qemu/**/*.test.ts',
            'test/contract/**/*.test.ts',
            'test/demo/**/*.test.ts',
            'test/chaos/**/*.test.ts',
            'test/graphs/**/*.test.ts',
            'test/telemetry/**/*.test.ts',
          ],
          globalSetup: BUNDLE,
          testTimeout: 120_000,
          hookTimeout: 240_000,
          maxWorkers: WORKERS,
        },
      },
      {
        test: {
          // What is published: packages, and the examples, which are built from the published contract.
          name: 'packages',
          include: ['test/packages/**/*.test.ts', 'test/examples/**/*.test.ts'],
          globalSetup: 'test/packages/build.ts',
          setupFiles: 'test/packages/built.ts',
          testTimeout: 300_000,
          hookTimeout: 240_000,
          maxWorkers: WORKERS,
        },
      },
      {
        test: {
          // What README promises to somebody new, in fresh roots: `make newcomer`.
          name: 'newcomer',
          include: ['test/newcomer/**/*.test.ts'],
          globalSetup: 'test/packages/build.ts',
          setupFiles: 'test/packages/built.ts',
          maxWorkers: WORKERS,
        },
      },
      {
        test: {
          // Real etcds, which are killed, stopped and filled.
          name: 'etcd',
          include: ['test/etcd/**/*.test.ts', 'test/fleet/**/*.test.ts'],
          globalSetup: BUNDLE,
          testTimeout: 60_000,
          hookTimeout: 60_000,
          maxWorkers: WAITING_WORKERS,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          // A real Chromium that looks at the page, of real QEMUs too.
          name: 'page',
          include: ['test/page/**/*.test.ts'],
          globalSetup: BUNDLE,
          testTimeout: 120_000,
          hookTimeout: 60_000,
          maxWorkers: WORKERS,
        },
      },
      {
        test: {
          // Fleets of containers.
          name: 'containers',
          include: ['test/containers/**/*.test.ts'],
          globalSetup: 'test/support/docker/global-setup.ts',
          setupFiles: 'test/support/docker/images-made.ts',
          testTimeout: 180_000,
          hookTimeout: 300_000,
          maxWorkers: WAITING_WORKERS,
          sequence: { groupOrder: 1 },
        },
      },
    ],
    // A race that shows once in a hundred runs is a bug of the code or of the test.
    retry: 0,
  },
});
