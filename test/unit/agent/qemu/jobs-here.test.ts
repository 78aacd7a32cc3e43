import { expect, it } from 'vitest';
import { JobsHere } from '../../../../src/agent/qemu/jobs-here.ts';
import type { QemuJobStatus } from '../../../../src/core/qemu/replies.ts';

const JOB = 'bj0123456789abcdef';

const timestamp = { seconds: 1, microseconds: 2 };

function listed(status: QemuJobStatus, id = JOB) {
  return [{ id, type: 'mirror', status, error: undefined, currentBytes: 0, endBytes: 1 }];
}

it.each([
  ['created', true],
  ['running', true],
  ['paused', true],
  ['ready', true],
  ['standby', true],
  ['waiting', false],
  ['pending', false],
  ['aborting', false],
  ['concluded', false],
  ['null', false],
] as const)('a job that is %s is running: %s, listed or reported', (status, isUnderWay) => {
  const jobs = new JobsHere();
  jobs.listed(listed(status));
  expect([jobs.has(JOB), jobs.isUnderWay(JOB)]).toEqual([true, isUnderWay]);
  jobs.listed(listed('running'));
  jobs.take({ event: 'JOB_STATUS_CHANGE', data: { id: JOB, status }, timestamp });
  expect([jobs.has(JOB), jobs.isUnderWay(JOB)]).toEqual([true, isUnderWay]);
});

it('a job that is no longer listed is known, and not running', () => {
  const jobs = new JobsHere();
  jobs.listed(listed('running'));
  jobs.listed([]);
  expect([jobs.has(JOB), jobs.isUnderWay(JOB)]).toEqual([true, false]);
});

it('a job that is known by other signs is not known to be running', () => {
  const jobs = new JobsHere();
  jobs.know(JOB);
  expect([jobs.has(JOB), jobs.isUnderWay(JOB)]).toEqual([true, false]);
  jobs.listed(listed('running'));
  jobs.know(JOB);
  expect(jobs.isUnderWay(JOB)).toBe(true);
});

it('jobs of others are not ours, whatever is reported about them', () => {
  const jobs = new JobsHere();
  jobs.listed(listed('running', 'backup'));
  jobs.take({ event: 'JOB_STATUS_CHANGE', data: { id: 'backup', status: 'running' }, timestamp });
  expect(jobs.has('backup')).toBe(false);
});
