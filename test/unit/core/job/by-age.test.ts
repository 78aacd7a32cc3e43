import { expect, it } from 'vitest';
import { oldestFirst } from '../../../../src/core/job/known-job.ts';

/** As `NAME@HOUR`, and `NAME@HOUR#STAMP` where it has one. */
function job(text: string) {
  const [, name = '', hour = '', stamp] = /^(\w+)@(\d+)(?:#(\d+))?$/.exec(text) ?? [];
  const createTime = `2026-01-01T${hour.padStart(2, '0')}:00:00.000Z`;
  return { name, job: { createTime, beganMs: stamp === undefined ? undefined : Number(stamp) } };
}

it.each([
  ['stamps decide, whatever the host’s clock says', 'b@10#2 c@1#3 a@12#1', 'a b c'],
  ['of journals without stamps the host’s clock decides', 'b@10 c@12 a@1', 'a b c'],
  ['those from before there were stamps come first', 'c@3#0 b@2 d@4#1 a@1', 'a b c d'],
  ['those of a downgrade come between those of before and after', 'd@5#9 a@1#0 c@4 b@3 e@6#10', 'a b c d e'],
  ['or last, where there has been none since', 'a@1#0 b@2#1 c@3', 'a b c'],
  ['one of the same instant is the later one', 'b@1 a@1#0', 'a b'],
])('%s', (_what, jobs, order) => {
  const ordered = oldestFirst(jobs.split(' ').map(job));
  expect(ordered.map(({ name }) => name).join(' ')).toBe(order);
});
