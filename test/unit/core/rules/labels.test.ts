import { describe, expect, it } from 'vitest';
import { hasLabels, isMeant, type Labels } from '../../../../src/core/job/labels.ts';
import { labelRules } from '../../../../src/core/rules/rule.ts';

const NAME = 'a'.repeat(63);

const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, at) => [`k${at}`, '']));

describe('labels', () => {
  it.each<[key: string, value: string, isGood: boolean]>([
    ['app', 'web', true],
    ['app', '', true],
    ['example.org/app', 'web', true],
    [NAME, NAME, true],
    [`${'d.'.repeat(126)}d/${NAME}`, NAME, true],
    ['A_b-c.9', 'A_b-c.9', true],
    ['', 'web', false],
    [`${NAME}a`, '', false],
    ['app', `${NAME}a`, false],
    ['-app', '', false],
    ['app-', '', false],
    ['app', '-', false],
    ['a b', '', false],
    ['app', 'ä', false],
    ['a/b/c', '', false],
    ['/app', '', false],
    ['Example.org/app', '', false],
    ['exa_mple/app', '', false],
    [`${'d.'.repeat(127)}d/app`, '', false],
    ['example.org/', '', false],
  ])('%s = %s: %s', (key, value, isGood) => {
    expect(labelRules('labels', { [key]: value }).length === 0).toBe(isGood);
  });

  it('are 32 at most', () => {
    expect(labelRules('labels', many(32))).toEqual([]);
    expect(labelRules('labels', many(33))).toMatchObject([{ field: 'labels', reason: 'FIELD_INVALID' }]);
  });

  it('match if all requested ones match', () => {
    const job = { labels: { a: '1', b: '2' }, createdBy: 'ops' };
    const fits = [{}, { labels: {} }, { labels: { a: '1' } }, { labels: { a: '1', b: '2' } }, { createdBy: 'ops' }];
    const wrong: readonly Labels[] = [{ a: '2' }, { c: '' }, { ['toString']: '' }];
    const others = [...wrong.map((labels) => ({ labels })), { createdBy: 'op' }];
    expect(fits.map((asked) => hasLabels(job, asked))).toEqual(fits.map(() => true));
    expect(others.map((asked) => hasLabels(job, asked))).toEqual(others.map(() => false));
    expect(hasLabels({}, { labels: { a: '' } })).toBe(false);
  });

  it('belong to a domain, by name or UUID', () => {
    const job = { domain: 'web1', domainUuid: '8d2a2ee0-0d38-4d8a-9e24-2b8f8e2f6a11' };
    expect(isMeant(job, { domain: 'web1' })).toBe(true);
    expect(isMeant(job, { domain: job.domainUuid.toUpperCase() })).toBe(true);
    expect(isMeant(job, { domain: 'web2' })).toBe(false);
  });
});
