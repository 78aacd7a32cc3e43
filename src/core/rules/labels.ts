/** The rules for the labels of a job. They are those of Kubernetes. */
import type { Violation } from '../errors.ts';
import type { Labels } from '../job/labels.ts';
import { invalid } from './rule.ts';

const MOST = 32;
const NAME = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const DNS_NAME = /^(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;

export function labelRules(field: string, labels: Labels = {}): Violation[] {
  const all = Object.entries(labels);
  if (all.length > MOST) return [invalid(field, `has ${all.length} labels; ${MOST} is the most`)];
  return all.flatMap(([key, value]) => [
    ...(isKey(key) ? [] : [invalid(field, `has the key ${JSON.stringify(key)}; ${KEY}`)]),
    ...(value === '' || NAME.test(value) ? [] : [invalid(field, `has the value ${JSON.stringify(value)}; ${VALUE}`)]),
  ]);
}

const IS_NAME = "1 to 63 letters, digits, '-', '_' and '.', the first and the last a letter or digit";
const KEY = `a key is ${IS_NAME}; before it there may be a DNS name and '/'`;
const VALUE = `a value is empty, or ${IS_NAME}`;

function isKey(key: string): boolean {
  const [name = '', prefix, ...more] = key.split('/').toReversed();
  return more.length === 0 && NAME.test(name) && (prefix === undefined || DNS_NAME.test(prefix));
}
