/** The exit status of a waiting command if another client ends the job, or its time is over in the same moment. */
import { describe, expect, it, vi } from 'vitest';
import { BlockJobError, failure } from '../../../src/core/errors.ts';
import { Overflows } from '../../support/fake-qemu/overflows.ts';
import { PIVOTED, StubService } from '../../support/service/stub-service.ts';
import { DESTINATION, JOB, SOURCE } from '../core/stories.ts';

const COPY = ['copy', 'vm1', 'vd0', DESTINATION] as const;
const FINISH = ['rebase', 'vm1', 'vd0', DESTINATION, '--copy', '--finish'] as const;
const KEEP = ['commit', 'vm1', 'vd0', '--keep-overlay'] as const;

/** The file is not a copy. */
const broken = (destinationContent: 'PARTIAL' | 'STALE') => ({ ...PIVOTED, destinationContent, safeToDelete: [] });

/** A service that refuses an abort, because the job moves to these states in the same moment. */
function tooLate(reason: 'JOB_ENDING' | 'JOB_ENDED', ...states: StubService['course']): StubService {
  const service = new StubService();
  service.refuse = (method) => {
    if (method !== 'abort') return;
    service.go(...states);
    throw new BlockJobError(failure(reason, { job: JOB, state: 'CANCELLING' }));
  };
  return service;
}

describe('a copy that should end at READY', () => {
  it.each([
    ['rebase --finish', FINISH],
    ['commit --keep-overlay', KEEP],
  ])('and is cancelled by another client before is not done: %s', async (_what, args) => {
    const service = new StubService();
    service.course = ['RUNNING', 'CANCELLING', 'CANCELLED'];
    service.outcome = broken('PARTIAL');
    const ran = await service.run(args);
    expect(ran.stdout).toContain('never use it as a disk');
    expect(ran.code).toBe(4);
    expect(service.request('abort')).toBeUndefined();
    const ended = new StubService();
    ended.course = ['RUNNING', 'CANCELLED'];
    expect((await ended.run(args)).code).toBe(4);
  });

  it('and is cancelled by another client while this command ends it is not done either', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'READY'];
    service.outcome = broken('STALE');
    expect((await service.run(KEEP)).code).toBe(4);
    expect(service.request('abort')).toBeDefined();
  });

  it('and that another client ends in the same moment reports that end', async () => {
    const kept = tooLate('JOB_ENDED', 'CANCELLED');
    kept.course = ['RUNNING', 'READY'];
    const ran = await kept.run(KEEP);
    expect(ran.stdout).toContain('the copy is complete');
    expect(ran.code).toBe(0);
    const pivoting = tooLate('JOB_ENDING', 'CANCELLING', 'CANCELLED');
    pivoting.course = ['RUNNING', 'READY'];
    expect((await pivoting.run(['commit', 'vm1', 'vd0', '--pivot'])).code).toBe(4);
  });

  it.each([
    ['copy --finish', [...COPY, '--finish']],
    ['rebase --finish', FINISH],
    ['commit --keep-overlay', KEEP],
  ])('is not done if another client pivots: %s', async (_what, args) => {
    const service = new StubService();
    service.course = ['RUNNING', 'PIVOTING', 'COMPLETED'];
    service.outcome = PIVOTED;
    const ran = await service.run(args);
    expect(ran.stdout).toContain('Successfully pivoted');
    expect(ran.code).toBe(4);
  });

  it('is ended also if the service is down for a while at READY', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'READY'];
    let later = 0;
    const now = performance.now.bind(performance);
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + later);
    let aborts = 0;
    service.refuse = (method) => {
      if (method === 'abort') aborts += 1;
      if (method !== 'abort' || aborts > 2) return;
      later += 60_000;
      throw new BlockJobError(failure('DRAINING', {}));
    };
    try {
      expect((await service.run(KEEP)).code).toBe(0);
    } finally {
      clock.mockRestore();
    }
    expect(aborts).toBe(3);
  });
});

describe.concurrent('--timeout', () => {
  it.each([
    ['COMPLETED', 0],
    ['FAILED', 4],
    ['UNRESOLVED', 5],
    ['CANCELLED', 6],
  ] as const)('that comes too late reports the end of the job: %s', async (state, code) => {
    const service = tooLate('JOB_ENDING', state);
    service.kind = 'PULL';
    const ran = await service.run(['pull', 'vm1', 'vd0', '--timeout', '0.1']);
    expect(ran.stdout.includes('The time limit expired, and the job was cancelled')).toBe(state === 'CANCELLED');
    expect(ran.code).toBe(code);
  });

  it.each([
    ['PULL', ['pull', 'vm1', 'vd0']],
    ['PULL', ['rebase', 'vm1', 'vd0', '--wait']],
    ['COMMIT', ['commit', 'vm1', 'vd0', '--top', SOURCE, '--wait']],
  ] as const)('of weeks is not over at once: %s, %j', async (kind, args) => {
    const service = new StubService();
    service.kind = kind;
    service.course = ['RUNNING', 'COMPLETED'];
    using overflows = new Overflows();
    expect((await service.run([...args, '--timeout', '600h'])).code).toBe(0);
    expect(service.request('abort')).toBeUndefined();
    expect(overflows.seen).toEqual([]);
  });

  it('does not expire without a limit, if another client cancels', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'CANCELLING'];
    const ran = await service.run([...COPY, '--wait', '--async']);
    expect(ran.stdout).not.toContain('The time limit expired');
    expect(ran.code).toBe(4);
  });
});

describe('abort', () => {
  it('of a copy that is being finished is done: the guest stays', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'READY'];
    const abort = async () => {
      service.go('COMPLETED');
      return await Promise.resolve(service.view);
    };
    Object.defineProperty(service, 'jobs', { value: { ...service.jobs, abort } });
    const ran = await service.run(['abort', JOB]);
    expect(ran.stdout).toContain('Successfully copied');
    expect(ran.stdout).not.toContain('Too late');
    expect(ran.code).toBe(0);
  });
});
