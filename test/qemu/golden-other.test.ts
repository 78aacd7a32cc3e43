// The expected result differs between the cases.
/* oxlint-disable vitest/no-conditional-expect, vitest/expect-expect, vitest/valid-title, unicorn/consistent-function-scoping */
/**
 * The other recorded cases of libvirt's block jobs (commits, copies, pulls, and their ends and changes), step by step
 * through gRPC with a real QEMU.
 */
import { existsSync } from 'node:fs';
import type { ServiceError } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GetInfoRequest, SetSpeedRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { type Job, Job_State, JobKind } from '../../generated/blockjob/v1/job.ts';
import { expectWell, present } from '../support/checks.ts';
import {
  type ExpectedImage,
  isSame,
  leavesZeroesOut,
  type RecordedImage,
  reasonsOf,
  SCALE,
} from '../support/golden/golden.ts';
import { RECORDED_SIZE, type SourceKind } from '../support/golden/golden-images.ts';
import {
  type Ask,
  askOf,
  CASES,
  type Call,
  type Final,
  isStart,
  NO_COUNTERPART,
  type OtherCase,
  titleOf,
  type Wait,
  whyNotAsked,
} from '../support/golden/golden-other.ts';
import {
  chainOf,
  DIFFERENCES,
  expectedOf,
  FINAL_DIFFERENCES,
  finalOf,
  libvirts,
  NEVER_REMOVED,
} from '../support/golden/golden-other-differences.ts';
import { DESTINATION } from '../support/golden/golden-rebase.ts';
import { World } from '../support/golden/golden-world.ts';
import { needs } from '../support/means.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';

const SOURCES: readonly { readonly name: string; readonly source: SourceKind; readonly sizeBytes?: number }[] = [
  { name: 'qcow2-chain', source: 'qcow2-chain' },
  { name: 'qcow2-chain-rel', source: 'qcow2-chain-rel' },
  { name: 'qcow2-flat', source: 'qcow2-flat' },
  { name: 'raw', source: 'raw' },
  // A job that must not end between two changes of its speed needs the whole size.
  { name: 'qcow2-chain, large', source: 'qcow2-chain', sizeBytes: RECORDED_SIZE },
];
const MIB = 1n << 20n;
const notRoot = process.getuid?.() !== 0;
/** By libvirt's number. */
const KINDS: Readonly<Record<number, JobKind>> = {
  1: JobKind.JOB_KIND_PULL,
  2: JobKind.JOB_KIND_COPY,
  3: JobKind.JOB_KIND_COMMIT,
  4: JobKind.JOB_KIND_ACTIVE_COMMIT,
};
const ENDED: readonly Job_State[] = [
  Job_State.STATE_COMPLETED,
  Job_State.STATE_CANCELLED,
  Job_State.STATE_FAILED,
  Job_State.STATE_UNRESOLVED,
];

function asked(one: OtherCase): readonly Call[] {
  return one.steps.filter((step): step is Call => 'call' in step && whyNotAsked(step) === undefined);
}

test('the tables: each omission and each difference occurs, and each difference differs', () => {
  const leftOut = new Map<string, number>(NO_COUNTERPART.map(({ why }) => [why, 0]));
  const differences = new Map<string, number>(
    [...DIFFERENCES, ...FINAL_DIFFERENCES, NEVER_REMOVED].map(({ name }) => [name, 0]),
  );
  const count = (map: Map<string, number>, name: string) => map.set(name, present(map.get(name)) + 1);
  for (const one of CASES) {
    for (const step of one.steps) {
      if (!('call' in step)) continue;
      const why = whyNotAsked(step);
      if (why !== undefined) count(leftOut, why);
    }
    for (const step of asked(one)) {
      const { expected, difference } = expectedOf(one, step);
      if (difference === undefined) continue;
      count(differences, difference);
      expect(isSame(expected, libvirts(one, step)), `${titleOf(one)} does not differ: ${difference}`).toBe(false);
    }
    for (const { name, when } of [...FINAL_DIFFERENCES, NEVER_REMOVED]) if (when(one)) count(differences, name);
  }
  expect(Object.fromEntries(leftOut)).toMatchInlineSnapshot(`
    {
      "CheckOperation knows nothing of what a snapshot selects": 1,
      "ImageFormat has qcow2 and raw only": 6,
      "a destination does not describe its chain: its headers do": 3,
      "a destination is a message, not XML": 2,
      "an export over the network is not compared here": 1,
      "an unsigned field has no negative value": 2,
      "its answer depended on chance": 2,
      "parameters are fields: none is of another type, given twice or unknown": 13,
      "protobuf has no NULL, and no count beside an array": 4,
    }
  `);
  expect(Object.fromEntries(differences)).toMatchInlineSnapshot(`
    {
      "a busy disk is said to be busy before its images are looked for": 1,
      "a domain need not be transient": 3,
      "a drive without a medium is said to be one": 1,
      "a file that a job did not make is never removed": 1,
      "a full copy keeps the backing file of the image that is reused": 1,
      "a path that is neither a file nor a block device is refused before QEMU is asked": 2,
      "a qcow2 of version 2 with a backing file takes no full copy": 2,
      "an empty image over nothing is not taken for the image below the active one": 2,
      "an error of the bandwidth is reported before anything else": 1,
      "an image that cannot be probed is not taken for raw": 5,
      "an incomplete copy is removed by the job that made it": 2,
      "sizes are compared before the start": 6,
    }
  `);
  expect(CASES.filter((one) => asked(one).length > 0)).toHaveLength(394);
});

describe.skipIf(needs('qemu'))('block jobs as libvirt has them', () => {
  const held = new AsyncDisposableStack();
  let service: Service;
  let sockets: string;

  beforeAll(async () => {
    const { path } = held.use(await testDir());
    sockets = held.use(await testDir('bj-qmp-')).path;
    service = held.use(await Service.start({ dir: path, qmpDir: sockets, allow: ['/tmp', path] }));
  });
  afterAll(async () => {
    try {
      if (service !== undefined) expectWell(service);
    } finally {
      await held.disposeAsync();
    }
  });

  describe.each(SOURCES)('$name', ({ source, sizeBytes }) => {
    let world: World;
    beforeAll(async () => {
      const { path: folder } = held.use(await testDir());
      world = held.use(
        await World.make({
          folder,
          source,
          ...(sizeBytes === undefined ? {} : { sizeBytes }),
          service,
          sockets,
          devices: undefined,
        }),
      );
    });
    afterAll(async () => {
      await world?.spent();
    });

    const isLarge = (one: OtherCase) => one.group === 'setspeed';
    const cases = CASES.filter(
      (one) => one.source === source && isLarge(one) === (sizeBytes !== undefined) && asked(one).length > 0,
    ).toSorted((a, b) => String(a.dest).localeCompare(String(b.dest)) || a.case - b.case);
    for (const one of cases) {
      test(titleOf(one), async ({ skip }) => {
        skip(notRoot && one.dest === 'character-device', 'no device nodes');
        await replay(world, one);
      });
    }
  });

  async function replay(world: World, one: OtherCase): Promise<void> {
    await world.lay(one.dest ?? 'absent');
    const jobs: Job[] = [];
    try {
      for (const step of one.steps) {
        if ('chain' in step) expect(await world.chain()).toEqual(chainOf(one, step.chain, await leavesZeroesOut()));
        else if ('wait' in step) await arrive(step, present(jobs.at(-1), 'a job'));
        else if ('still_there' in step) expect(existsSync(world.here(DESTINATION))).toBe(true);
        else if (whyNotAsked(step) === undefined) {
          const isAsExpected = await take(world, one, step, jobs);
          if (!isAsExpected) return;
        } else if (isStart(step) && step.error === undefined) return;
      }
      if (jobs.length === 0) expect(await world.changes()).toEqual([]);
      else await expectFinal(world, one);
    } finally {
      if (jobs.length > 0) await world.spent();
    }
  }

  /** One step. False if it ended otherwise than with libvirt, so that the later steps mean nothing. */
  async function take(world: World, one: OtherCase, step: Call, jobs: Job[]): Promise<boolean> {
    const { expected } = expectedOf(one, step);
    const name = `${step.call} ${JSON.stringify(step.args)}`;
    const answer = await ask(world, askOf(step)).catch((error: unknown) => reasonsOf(error));
    if (step.info !== undefined) {
      expectInfo(step, answer, name);
      return true;
    }
    if (isJob(answer) && isStart(step)) jobs.push(answer);
    const reasons = expected.verdict === 'refused' ? expected.reasons : [];
    const reported = isJob(answer) ? [] : (answer ?? []);
    const agrees = reported.some((reason) => reasons.some((other) => other === reason));
    const found =
      reported.length > 0 ? { verdict: 'refused', reasons: agrees ? reasons : reported } : { verdict: 'accepted' };
    expect(found, name).toEqual(expected);
    return !isStart(step) || expected.verdict === libvirts(one, step).verdict;
  }

  function isJob(answer: Job | readonly string[] | undefined): answer is Job {
    return answer !== undefined && 'id' in answer;
  }

  async function ask(world: World, question: Ask): Promise<Job | readonly string[] | undefined> {
    const { domain } = await world.disk();
    const disk = { domain, disk: question.disk ?? '' };
    const ref = { name: { $case: 'disk', value: disk } } as const;
    switch (question.rpc) {
      case 'rebase':
        return await service.rebase({ ...question, disk, base: world.here(question.base) });
      case 'commit':
        return await service.commit({
          ...question,
          disk,
          base: world.here(question.base),
          top: world.here(question.top),
        });
      case 'startCopy': {
        const { destination, format, bandwidth, ...more } = question;
        const target = { ...destination, value: world.here(destination.value) };
        return await service.startCopy({
          ...more,
          disk,
          destination: { target, format },
          bandwidthBytesPerSecond: bandwidth,
        });
      }
      case 'abort':
        return await service.abort({ job: ref, pivot: question.pivot, returnImmediately: question.async });
      case 'setSpeed': {
        const request = SetSpeedRequest.fromPartial({ job: ref, bandwidthBytesPerSecond: question.bandwidth });
        return await answered((done) => service.blockJobs.setSpeed(request, done));
      }
      case 'getInfo': {
        const request = GetInfoRequest.fromPartial({ job: ref });
        return await answered((done) => service.blockJobs.getInfo(request, done));
      }
      case 'checkOperation': {
        const ofDisk = question.disk === undefined ? {} : { disk: question.disk };
        const no = await service.checkOperation({ domain, operation: question.operation, ...ofDisk });
        return no && [no.reason];
      }
    }
  }

  type Done = (error: ServiceError | null, response: { job?: Job | undefined }) => void;

  async function answered(call: (done: Done) => unknown): Promise<Job | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<Job | undefined>();
    call((error, response) => (error === null ? resolve(response.job) : reject(error)));
    return await promise;
  }

  /** libvirt reports nothing about a disk without a job; this service still has the last one, as it ended. */
  function expectInfo({ info, args }: Call, answer: Job | readonly string[] | undefined, name: string): void {
    if (info === undefined || info === null) {
      const reported = isJob(answer) ? [ENDED.includes(answer.state) ? 'ended' : 'runs'] : answer;
      expect(['ended', 'DISK_HAS_NO_JOB'], name).toContain(reported?.[0]);
      return;
    }
    const job = isJob(answer) ? answer : undefined;
    const bytes = job?.bandwidthBytesPerSecond ?? 0n;
    const bandwidth = args.at(-1) === 1 ? bytes : (bytes + MIB - 1n) / MIB;
    expect({ kind: job?.kind, state: job?.state, bandwidth }, name).toEqual({
      kind: KINDS[info.type],
      state: info.ready ? Job_State.STATE_READY : Job_State.STATE_RUNNING,
      bandwidth: BigInt(info.bandwidth),
    });
  }

  async function arrive({ wait }: Wait, { id }: Job): Promise<void> {
    await service.until(id, wait === 'CANCELED' ? 'STATE_CANCELLED' : `STATE_${wait}`);
  }

  async function expectFinal(world: World, one: OtherCase): Promise<void> {
    const expected = finalOf(one, await leavesZeroesOut());
    const chain = await world.chain();
    // QEMU has everything on disk when it has closed the images.
    await world.spent();
    const found: Record<string, unknown> = {};
    const see = async (key: keyof Final, look: () => Promise<unknown>) => {
      if (expected[key] !== undefined) found[key] = await look();
    };
    const copy = world.here(DESTINATION);
    const top = world.here(present(chain[0]));
    await see('chain', async () => await Promise.resolve(chain));
    await see('image', async () => asRecorded(await world.image(copy)));
    await see('identical', async () => await world.isIdentical(copy));
    await see('source_identical', async () => await world.isIdentical(world.top));
    await see('layers', async () => await world.layers());
    await see('active', async () => asRecorded(await world.image(top)));
    await see('active_identical', async () => await world.isIdentical(top));
    expect(found).toEqual(expected);
    if (expected.image === undefined && one.dest === 'absent') expect(existsSync(copy)).toBe(false);
  }
});

function asRecorded({ format, virtualSize, backing, backingFormat }: ExpectedImage): RecordedImage {
  return {
    format,
    virtual_size: virtualSize * SCALE,
    backing: backing ?? null,
    backing_format: backingFormat ?? null,
  };
}
