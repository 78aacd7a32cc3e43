/**
 * Loaded before a service: the clock of its host is off by the number of milliseconds in the file CLOCK_SHIFT, read at
 * each look.
 */
import { readFileSync } from 'node:fs';

const file = process.env['CLOCK_SHIFT'] ?? '';
const Real = Date;

function shifted(): number {
  return Real.now() + Number(readFileSync(file, 'utf8'));
}

globalThis.Date = new Proxy(Real, {
  construct: (target, args: readonly unknown[], self) =>
    Reflect.construct(target, args.length === 0 ? [shifted()] : [...args], self) as Date,
  get: (target, name) => (name === 'now' ? shifted : (Reflect.get(target, name) as unknown)),
});
