/** A verdict in words. */
import { expect, it } from 'vitest';
import type { EndVerdict } from '../../../../src/core/job/convergence.ts';
import { verdictInWords } from '../../../../src/core/job/verdict-words.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const STALLED: EndVerdict = {
  convergence: 'STALLED',
  because: 'GUEST',
  bytesPerSecond: 20 * MIB,
  demandBytesPerSecond: 32 * MIB,
  guestBytesPerSecond: 2 * MIB,
  guestWriteBytes: 4 * KIB,
  granularityBytes: 64 * KIB,
  dataBytes: 256 * MIB,
  remainingBytes: 100 * MIB,
  floorBytes: 96 * MIB,
};

it.each<[string, Partial<EndVerdict>, string]>([
  [
    'small writes: a smaller granularity helps',
    {},
    'will not end at this rate: the guest writes 2.0 MiB/s in blocks of 4 KiB, which dirty 32.0 MiB/s in units of 64 KiB, and 20.0 MiB/s are copied; about 96.0 MiB always remain; try a new copy with a granularity of 4 KiB, which makes 2.0 MiB/s of it',
  ],
  [
    'large writes: it does not',
    { guestBytesPerSecond: 32 * MIB, guestWriteBytes: 64 * KIB },
    'will not end at this rate: the guest writes 32.0 MiB/s in blocks of 64 KiB, and 20.0 MiB/s are copied; about 96.0 MiB always remain; try a faster destination, write mode BLOCKING, an end policy that switches to it or slows the guest down, or a quieter hour of the guest',
  ],
  [
    'so many small writes that it would still not end: it does not',
    { bytesPerSecond: 2 * MIB },
    'will not end at this rate: the guest writes 2.0 MiB/s in blocks of 4 KiB, which dirty 32.0 MiB/s in units of 64 KiB, and 2.0 MiB/s are copied; about 96.0 MiB always remain; try a faster destination, write mode BLOCKING, an end policy that switches to it or slows the guest down, or a quieter hour of the guest',
  ],
  [
    'its own limit',
    { because: 'LIMIT' },
    'will not end at this rate: the guest writes 2.0 MiB/s in blocks of 4 KiB, which dirty 32.0 MiB/s in units of 64 KiB, and 20.0 MiB/s are copied; about 96.0 MiB always remain; try a speed limit above 32.0 MiB/s, or an end policy with such a ceiling',
  ],
  [
    'write mode BLOCKING',
    { demandBytesPerSecond: 0, floorBytes: 0 },
    'will not end at this rate: the guest’s own writes take the speed of the copy, and 20.0 MiB/s are copied; try a faster destination',
  ],
  [
    'nothing copied',
    { because: 'NOTHING_COPIED' },
    'copies nothing: the storage does not answer, or another program holds it up',
  ],
  [
    'a copy that ends',
    { convergence: 'CONVERGING', because: 'ENDS', bytesPerSecond: 60 * MIB },
    'will end at this rate: copies 60.0 MiB/s, and the guest writes 2.0 MiB/s in blocks of 4 KiB, which dirty 32.0 MiB/s in units of 64 KiB',
  ],
  ['an idle guest', { convergence: 'CONVERGING', because: 'ENDS', demandBytesPerSecond: 0 }, 'will end at this rate'],
  ['a copy in step', { convergence: 'SETTLED', because: 'ENDS' }, 'keeps in step with the guest'],
])('%s', (_why, more, words) => {
  expect(verdictInWords({ ...STALLED, ...more })).toBe(words);
});
