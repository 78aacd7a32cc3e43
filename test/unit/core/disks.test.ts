/** Each kind of image in each role. */
import { describe, expect, it } from 'vitest';
import type { Image } from '../../../src/core/chain.ts';
import { refuseUnfit } from '../../../src/core/disks/judge.ts';
import { KINDS, type Kind, type KindName } from '../../../src/core/disks/kinds.ts';
import { commitUses, copyUses, pullUses, type Role, type Uses } from '../../../src/core/disks/uses.ts';
import { BlockJobError } from '../../../src/core/errors.ts';
import { anImage } from '../../support/image.ts';

const file = { node: 'file', driver: 'file' };

/** One of each kind, and what it may not be used for. */
const ROWS: Readonly<Record<KindName, readonly [images: readonly Partial<Image>[], refused: string]>> = {
  UNKNOWN: [
    [
      { format: 'quorum', storage: undefined },
      { format: 'qcow2', storage: { node: 'x', driver: 'vvfat' } },
      { format: 'raw', layers: ['raw', 'blkverify'], storage: file },
    ],
    'READ FILLED RELINKED NAMED LEFT DELETED',
  ],
  PART: [[{ format: 'raw', isPart: true, storage: file }], 'RELINKED NAMED DELETED'],
};

const ROLES: readonly Role[] = ['READ', 'FILLED', 'RELINKED', 'NAMED', 'LEFT', 'DELETED'];

function refusal(uses: Uses): string | undefined {
  try {
    refuseUnfit(uses);
    return undefined;
  } catch (error) {
    if (error instanceof BlockJobError) return `${error.reason} ${error.failure.metadata['kind']}`;
    throw error;
  }
}

describe.each(Object.entries(ROWS))('an image of kind %s', (kind, [images, refused]) => {
  it.each(images)('%j is one, and of no other kind', (like) => {
    const image = anImage({ path: '/i', ...like });
    const kinds = Object.entries(KINDS as Readonly<Record<string, Kind>>).filter(
      ([, { of }]) => of(image) !== undefined,
    );
    expect(kinds.map(([name]) => name)).toEqual([kind]);
  });

  it.each(ROLES)('as %s', (role) => {
    for (const like of images) {
      const image = anImage({ path: '/i', ...like });
      const found = refusal({ operation: 'COPY', uses: [{ image, roles: new Set([role]) }] });
      expect(found).toBe(refused.split(' ').includes(role) ? `IMAGE_UNSUITABLE ${kind}` : undefined);
    }
  });
});

it.each(['raw', 'qcow2', 'vmdk', 'file', 'host_device'])('a plain image of driver %s is used for all', (format) => {
  const image = anImage({ path: '/i', format, storage: file });
  expect(refusal({ operation: 'COMMIT', uses: [{ image, roles: new Set(ROLES) }] })).toBeUndefined();
});

function inWords({ uses }: Uses): string[] {
  return uses.map(({ roles }) => [...roles].join(' '));
}

describe('what an operation does with each image, the active one first', () => {
  const chain = ['/3', '/2', '/1', '/0'].map((path) => anImage({ path }));

  it.each<[string, Uses, readonly string[]]>([
    ['a whole copy', copyUses(chain, { topOnly: false, isNamed: false }), ['READ LEFT', 'READ', 'READ', 'READ']],
    ['a shallow copy', copyUses(chain, { topOnly: true, isNamed: true }), ['READ LEFT', 'NAMED', '', '']],
    ['one with a chain of its own', copyUses(chain, { topOnly: true, isNamed: false }), ['READ LEFT', '', '', '']],
    ['a pull', pullUses(chain, undefined), ['FILLED RELINKED', 'READ', 'READ', 'READ']],
    ['a pull to a base', pullUses(chain, 2), ['FILLED RELINKED', 'READ', 'NAMED', '']],
    [
      'a commit of lower images',
      commitUses(chain, { topAt: 1, baseAt: 3, deletes: false }),
      ['RELINKED', 'READ LEFT', 'READ LEFT', 'FILLED NAMED'],
    ],
    [
      'a commit of the active image, which is deleted',
      commitUses(chain, { topAt: 0, baseAt: 1, deletes: true }),
      ['READ LEFT DELETED', 'FILLED NAMED', '', ''],
    ],
  ])('%s', (_name, uses, roles) => {
    expect(inWords(uses)).toEqual(roles);
  });
});
