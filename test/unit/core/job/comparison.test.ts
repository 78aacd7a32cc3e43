/** The parts that are compared, and the place where a difference begins. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { comparisonNames, firstDifference, type Part, partsOf, readPart } from '../../../../src/core/job/comparison.ts';

const GIB = 1024 * 1024 * 1024;
const sized = (bytes: number, below: number) => ({
  destination: { node: 'd', path: '/d', bytes },
  backing: { node: 'b', path: '/b', bytes: below },
});

describe('the parts of a comparison', () => {
  it('are the whole disk, each sector once, with zeroes behind the end of the backing image', () => {
    const sectors = fc.integer({ min: 1, max: 4 * 2 ** 31 });
    fc.assert(
      fc.property(sectors, sectors, (disk, below) => {
        const [bytes, end] = [disk * 512, below * 512];
        const parts = partsOf(sized(bytes, end));
        let at = 0;
        for (const part of parts) {
          expect([part.offset, part.to]).toEqual([at, at < end ? 'BACKING' : 'ZEROES']);
          expect(part.offset + part.bytes).toBeLessThanOrEqual(part.to === 'BACKING' ? end : bytes);
          expect(part.bytes).toBeGreaterThan(0);
          at += part.bytes;
        }
        expect(at).toBe(bytes);
        expect(parts.length).toBeLessThanOrEqual(66);
      }),
    );
  });

  it('are of a GiB, or of large disks a 64th', () => {
    expect(partsOf(sized(GIB, GIB))).toEqual([{ offset: 0, bytes: GIB, to: 'BACKING' }]);
    expect(partsOf(sized(GIB + 512, GIB + 512)).map(({ bytes }) => bytes)).toEqual([GIB, 512]);
    expect(partsOf(sized(1024 * GIB, 1024 * GIB)).map(({ bytes }) => bytes)).toEqual(Array(64).fill(16 * GIB));
    expect(partsOf(sized(0, GIB))).toEqual([]);
  });
});

describe('the first difference', () => {
  it('is found whichever sectors differ, and with few reads', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.nat(4999), { minLength: 1, maxLength: 20 }),
        fc.nat(1000),
        async (different, from) => {
          const sectors = different.map((sector) => (sector + from) * 512);
          let reads = 0;
          const differs = async ({ offset, bytes }: Part) => {
            reads += 1;
            return await Promise.resolve(sectors.some((at) => at >= offset && at < offset + bytes));
          };
          const found = await firstDifference({ offset: from * 512, bytes: 5000 * 512, to: 'BACKING' }, differs);
          expect(found).toEqual({ offset: Math.min(...sectors), bytes: 512, to: 'BACKING' });
          expect(reads).toBeLessThanOrEqual(13);
        },
      ),
    );
  });
});

describe('the reader of a part', () => {
  const comparison = { job: 'bj0123456789abcdef', ...sized(8192, 4096), bandwidthBytesPerSecond: 7 };
  const names = comparisonNames(comparison.job);
  const nodesOf = (part: Part, sides: 'BOTH' | 'BACKING') =>
    readPart(comparison, part, sides).map(
      (command): Readonly<Record<string, unknown>> => ('arguments' in command ? command.arguments : {}),
    );

  it('is a mirror that reads only equal data, within a limit of speed and memory', () => {
    const commands = nodesOf({ offset: 512, bytes: 1024, to: 'BACKING' }, 'BOTH');
    expect(commands.slice(0, 2)).toMatchObject([
      { driver: 'raw', file: 'd', offset: 512, size: 1024, 'read-only': true },
      { driver: 'raw', file: 'b', offset: 512, size: 1024, 'read-only': true },
    ]);
    expect(commands[2]).toMatchObject({
      driver: 'quorum',
      children: [names.destination, names.backing],
      'vote-threshold': 2,
    });
    expect(commands.at(-1)).toMatchObject({
      'job-id': names.qemuJob,
      device: names.quorum,
      target: names.nothing,
      sync: 'full',
      speed: 7,
      'buf-size': 16 * 1024 * 1024,
    });
  });

  it('reads zeroes behind the backing image, and one side alone without the other', () => {
    const [, zeroes] = nodesOf({ offset: 4096, bytes: 512, to: 'ZEROES' }, 'BOTH');
    expect(zeroes).toMatchObject({ driver: 'null-co', size: 512, 'read-zeroes': true });
    const alone = nodesOf({ offset: 0, bytes: 512, to: 'BACKING' }, 'BACKING');
    expect(alone.map(({ driver }) => driver)).toEqual(['raw', 'raw', 'null-co', undefined]);
    expect(alone.at(-1)).toMatchObject({ device: names.backing });
  });

  it('has names that fit into QEMU', () => {
    for (const name of Object.values(names)) expect([name, name.length < 32]).toEqual([name, true]);
  });
});
