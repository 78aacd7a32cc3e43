/**
 * A write that is repeated with its request_id is done once, whichever caller repeats it, and whatever happened in
 * between.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  BlockJobServiceClient,
  CommitFlag,
  RebaseFlag,
  StartCopyRequest,
  type StartCopyResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import { type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventually, graphOf } from '../support/checks.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { byId, call, jobOf, refusalOf, refused } from '../support/service/caller.ts';

type Start = Parameters<typeof StartCopyRequest.fromPartial>[0];

/** The delay in RetryInfo. */
const RETRY_MS = 1000;

let site: Site;

function copy({ disk, dir }: Machine, requestId: string, more: Start = {}): Start {
  const target = { $case: 'file', value: join(dir, 'copy') } as const;
  return { disk, destination: { target }, bandwidthBytesPerSecond: 65_536n, requestId, ...more };
}

/** One host has a limit of calls at a time: a refused caller waits, and asks again. */
async function untilServed(client: BlockJobServiceClient, message: StartCopyRequest): Promise<Job> {
  for (;;) {
    try {
      return jobOf(await call<StartCopyResponse>(client, 'startCopy', message));
    } catch (error) {
      if (refusalOf(error).reason !== 'TOO_MANY_CALLS') throw error;
      await wait(RETRY_MS);
    }
  }
}

describe('a request_id', () => {
  beforeAll(async () => {
    site = await Site.open();
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test('1,000 StartCopys with one id from 50 clients: one job', async () => {
    await using machine = await site.machine();
    const request = copy(machine, 'one-of-1000');
    const options = { 'grpc.use_local_subchannel_pool': 1 };
    const clients = Array.from(
      { length: 50 },
      () => new BlockJobServiceClient(site.service.address, credentials.createInsecure(), options),
    );
    const message = StartCopyRequest.fromPartial(request);
    const answers = clients.flatMap((client) =>
      Array.from({ length: 20 }, async () => await untilServed(client, message)),
    );
    const jobs = await Promise.all(answers);
    for (const client of clients) client.close();
    expect(new Set(jobs.map(({ id }) => id)).size).toBe(1);
    expect(new Set(jobs.map(({ requestId }) => requestId))).toEqual(new Set(['one-of-1000']));
    expect((await graphOf(machine.qemu.admin)).jobs).toHaveLength(1);
    expect((await site.service.listJobs({ domain: machine.disk.domain })).jobs).toHaveLength(1);
    const other = await refused(site.service.startCopy({ ...request, bandwidthBytesPerSecond: 1n }));
    expect(other).toMatchObject({
      reason: 'REQUEST_ID_REUSED',
      metadata: { requestId: 'one-of-1000', job: jobs[0]?.id },
    });
  });

  test('holds for every kind of start, across a crash of the service, and when the job has ended', async () => {
    await using machine = await site.machine();
    const { disk, chain } = machine;
    const ended = new Map<string, string>();
    const starts = {
      copy: async () => await site.service.startCopy({ ...copy(machine, 'copy'), bandwidthBytesPerSecond: 0n }),
      pull: async () => await site.service.rebase({ disk, base: chain[0]?.path ?? '', requestId: 'pull' }),
      commit: async () =>
        await site.service.commit({ disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE], requestId: 'commit' }),
    };
    for (const [name, start] of Object.entries(starts)) {
      const { id } = await start();
      ended.set(name, id);
      if (name === 'pull') await site.ended(await site.service.getInfo(id));
      else {
        await site.service.until(id, 'STATE_READY');
        await site.service.abort({ job: byId(id) });
      }
    }
    const again = async () => {
      for (const [name, start] of Object.entries(starts)) expect((await start()).id).toBe(ended.get(name));
    };
    await again();
    await site.restart('SIGKILL', disk.domain);
    await again();
    expect((await site.service.listJobs({ domain: disk.domain })).jobs).toHaveLength(3);
    const rebased = { disk, base: join(machine.dir, 'copy'), flags: [RebaseFlag.REBASE_FLAG_COPY], requestId: 'copy' };
    expect(await refused(site.service.rebase(rebased))).toMatchObject({ reason: 'REQUEST_ID_REUSED' });
  });

  test('of a call that was refused is free', async () => {
    await using machine = await site.machine();
    const wrong = copy(machine, 'free', { destination: { target: { $case: 'file', value: '/nowhere/x' } } });
    expect(await refused(site.service.startCopy(wrong))).toMatchObject({ reason: 'DESTINATION_NOT_ALLOWED' });
    expect((await site.service.startCopy(copy(machine, 'free'))).requestId).toBe('free');
  });

  test.each(['SetSpeed', 'Pause', 'Resume'] as const)(
    'of a %s that is not done when the job ends is answered, also after a restart',
    async (what) => {
      await using machine = await site.machine({ sizeBytes: 8 * MIB });
      const { id } = await site.service.startCopy(copy(machine, ''));
      if (what === 'Resume') await site.service.pause(id);
      const { revision } = await site.service.getInfo(id);
      const asks = {
        SetSpeed: async () => await site.service.setSpeed(id, 1_000_000n, `late-${id}`),
        Pause: async () => await site.service.pause(id, `late-${id}`),
        Resume: async () => await site.service.resume(id, `late-${id}`),
      };
      process.kill(machine.qemu.pid, 'SIGSTOP');
      const first = asks[what]().catch((error: unknown) => error);
      const isWritten = async () => (await site.service.getInfo(id)).revision > revision || undefined;
      await eventually('it is written down', isWritten);
      // QEMU has not taken it, and never will.
      await site.restart('SIGKILL', undefined, async () => {
        process.kill(machine.qemu.pid, 'SIGKILL');
        await machine.qemu.exited;
      });
      await first;
      // The end may not have been reported yet.
      expect((await refused(asks[what]())).reason).toMatch(/^JOB_END(ED|ING)$/);
      await site.service.until(id, 'STATE_FAILED');
      expect(await refused(asks[what]())).toMatchObject({ reason: 'JOB_ENDED', metadata: { job: id } });
    },
  );

  test('of an Abort, a SetSpeed and a Pause: later changes stay', async () => {
    await using machine = await site.machine({ sizeBytes: 64 * MIB });
    const { id } = await site.service.startCopy(copy(machine, 'steered'));
    await site.service.setSpeed(id, 1_000_000n, 'faster');
    await site.service.setSpeed(id, 100_000n);
    await site.service.pause(id, 'pause');
    await site.service.resume(id);
    for (const how of ['SIGTERM', 'SIGKILL'] as const) {
      expect(await site.service.setSpeed(id, 1_000_000n, 'faster')).toMatchObject({
        bandwidthBytesPerSecond: 100_000n,
      });
      expect((await site.service.pause(id, 'pause')).pauseReason).toBe(0);
      await site.restart(how, machine.disk.domain);
    }
    // A request that changes nothing is remembered, too.
    await site.service.setSpeed(id, 100_000n, 'as-it-is');
    await site.service.setSpeed(id, 200_000n);
    expect((await site.service.setSpeed(id, 100_000n, 'as-it-is')).bandwidthBytesPerSecond).toBe(200_000n);

    const abort = { job: byId(id), requestId: 'abort' };
    const first = await site.service.abort(abort);
    expect(first.state).toBe(Job_State.STATE_CANCELLED);
    expect(await site.service.abort(abort)).toEqual(first);
    expect(await refused(site.service.abort({ ...abort, force: true }))).toMatchObject({
      reason: 'REQUEST_ID_REUSED',
      metadata: { job: id },
    });
    expect(await refused(site.service.abort({ job: byId(id) }))).toMatchObject({ reason: 'JOB_ENDED' });
    expect((await readdir(machine.dir)).includes('copy')).toBe(false);
  });
});
