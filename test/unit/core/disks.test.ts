/** Each kind of image in each role. */
import { describe, expect, it } from 'vitest';
import type { Image } from '../../../src/core/disk/chain.ts';
import { judge } from '../../../src/core/disk/judge.ts';
import { KINDS, type Kind, type KindName } from '../../../src/core/disk/kinds.ts';
import { commitUses, copyUses, pullUses, type Role, type Uses } from '../../../src/core/disk/uses.ts';
import { BlockJobError } from '../../../src/core/errors.ts';
import type { Accept } from '../../../src/core/job-options.ts';
import { anImage } from '../../support/images/image.ts';

const file = { node: 'file', driver: 'file' };

/** An image of each kind, and its forbidden uses. */
const ROWS: Readonly<
  Record<KindName, readonly [images: readonly Partial<Image>[], refused: string, lost?: string, accept?: Accept]>
> = {
  UNKNOWN: [
    [
      { format: 'quorum', storage: undefined },
      { format: 'qcow2', storage: { node: 'x', driver: 'vvfat' } },
      { format: 'raw', layers: ['raw', 'blkverify'], storage: file },
    ],
    'READ FILLED RELINKED CUT NAMED LEFT DELETED',
  ],
  FILTERED: [[{ filters: ['throttle'] }], 'FILLED RELINKED CUT NAMED LEFT DELETED'],
  LOST_COUNT: [[{ lostFilter: '#block123' }], 'READ FILLED RELINKED CUT NAMED LEFT DELETED'],
  LAYERED: [[{ layers: ['throttle'], storage: file }], ''],
  NAMELESS: [[{ path: 'json:{"driver":"nbd"}' }, { path: '' }], 'RELINKED NAMED DELETED'],
  MISNAMED: [[{ path: '/vm/n\uFFFD.qcow2' }], 'RELINKED NAMED DELETED'],
  REMOTE: [[{ path: 'nbd://host:10809/x' }, { path: 'nbd+unix:///x?socket=/s' }], 'RELINKED DELETED'],
  OTHER: [[{ format: 'vmdk' }, { format: 'file' }], 'RELINKED'],
  DATA_FILE: [[{ dataFile: '/data' }], ''],
  PART: [[{ format: 'raw', isPart: true, storage: file }], 'RELINKED NAMED DELETED'],
  LONGER: [[{}], 'NAMED'],
  SUBCLUSTERS: [[{}], 'FILLED'],
  ENCRYPTED: [[{ encrypted: true }], '', 'READ', 'LOSES_ENCRYPTION'],
  SNAPSHOTS: [[{ snapshots: ['monday', ''] }], '', 'CUT LEFT DELETED', 'LOSES_INTERNAL_SNAPSHOTS'],
  SHARED: [[{}], '', 'READ LEFT DELETED', 'SHARED_WRITER'],
};

const ROLES: readonly Role[] = ['READ', 'FILLED', 'RELINKED', 'CUT', 'NAMED', 'LEFT', 'DELETED'];

/** A whole copy to a new file. */
const PLAINLY = { topOnly: false, isNamed: false, isEncrypted: false, sharedBy: undefined };

function refusal(uses: Uses, accepted: readonly Accept[] = []): string | undefined {
  try {
    judge(uses, new Set(accepted));
    return undefined;
  } catch (error) {
    if (!(error instanceof BlockJobError)) throw error;
    const { reason, metadata } = error.failure;
    return `${reason} ${metadata['kind'] ?? metadata['accept']}`;
  }
}

describe.each(Object.entries(ROWS))('an image of kind %s', (kind, [images, refused, lost = '', accept]) => {
  const beside =
    { SHARED: { sharedBy: 'is shared' }, LONGER: { hiddenBy: 'is longer' }, SUBCLUSTERS: { endsQemu: 'has some' } }[
      kind
    ] ?? {};

  it.each(images)('%j is one, and of no other kind', (like) => {
    const image = anImage({ path: '/i', ...like });
    const kinds = Object.entries(KINDS as Readonly<Record<string, Kind>>).filter(
      ([, { of }]) => of(image, beside) !== undefined,
    );
    expect(kinds.map(([name]) => name)).toEqual([kind]);
  });

  it.each(ROLES)('as %s', (role) => {
    for (const like of images) {
      const image = anImage({ path: '/i', ...like });
      const uses = {
        operation: 'COPY',
        uses: [{ image, roles: new Set([role]), ...beside }],
        into: undefined,
      } as const;
      const isLost = lost.split(' ').includes(role);
      const right = refused.split(' ').includes(role) ? `IMAGE_UNSUITABLE ${kind}` : undefined;
      expect(refusal(uses)).toBe(isLost ? `LOSS_NOT_ACCEPTED ${accept}` : right);
      expect(refusal(uses, ['LOSES_ENCRYPTION', 'LOSES_INTERNAL_SNAPSHOTS', 'SHARED_WRITER'])).toBe(right);
    }
  });
});

describe('the losses', () => {
  const [secret, plain] = [anImage({ path: '/s', encrypted: true, snapshots: ['a'] }), anImage({ path: '/p' })];

  it('is accepted by its own name, and by no other', () => {
    const uses = copyUses([secret], PLAINLY);
    expect(refusal(uses, ['LOSES_INTERNAL_SNAPSHOTS', 'SHARED_WRITER'])).toBe('LOSS_NOT_ACCEPTED LOSES_ENCRYPTION');
    expect(refusal(uses, ['LOSES_ENCRYPTION'])).toBe('LOSS_NOT_ACCEPTED LOSES_INTERNAL_SNAPSHOTS');
    const losses = judge(uses, new Set(['LOSES_ENCRYPTION', 'LOSES_INTERNAL_SNAPSHOTS', 'SHARED_WRITER'] as const));
    expect(losses.map(({ accept, path }) => [accept, path])).toEqual([
      ['LOSES_ENCRYPTION', '/s'],
      ['LOSES_INTERNAL_SNAPSHOTS', '/s'],
    ]);
  });

  it('is reported once for an image that is left and deleted', () => {
    const uses = commitUses([anImage({ path: '/t', snapshots: ['a'] }), plain], {
      topAt: 0,
      baseAt: 1,
      deletes: true,
      sharedBy: undefined,
    });
    expect(judge(uses, new Set(['LOSES_INTERNAL_SNAPSHOTS'] as const))).toHaveLength(1);
  });

  it('is not an encryption if the image that takes the contents is encrypted', () => {
    const under = anImage({ path: '/u', encrypted: true });
    expect(refusal(pullUses([under, under], { baseAt: undefined, toSubclusters: true }))).toBeUndefined();
    expect(refusal(pullUses([plain, under], { baseAt: undefined, toSubclusters: true }))).toBe(
      'LOSS_NOT_ACCEPTED LOSES_ENCRYPTION',
    );
    expect(refusal(commitUses([under, plain], { topAt: 0, baseAt: 1, deletes: false, sharedBy: undefined }))).toBe(
      'LOSS_NOT_ACCEPTED LOSES_ENCRYPTION',
    );
    expect(refusal(copyUses([under, under], { ...PLAINLY, isEncrypted: true }))).toBeUndefined();
    expect(refusal(copyUses([plain, under], PLAINLY))).toBe('LOSS_NOT_ACCEPTED LOSES_ENCRYPTION');
    // A plain overlay that is copied alone contains nothing of it.
    expect(refusal(copyUses([plain, under], { ...PLAINLY, topOnly: true, isNamed: true }))).toBeUndefined();
  });

  it('are not snapshots if nothing is cut off from the image below', () => {
    const one = anImage({ path: '/i', snapshots: ['a'] });
    expect(refusal(pullUses([one], { baseAt: undefined, toSubclusters: true }))).toBeUndefined();
    expect(refusal(pullUses([one, plain, plain], { baseAt: 1, toSubclusters: true }))).toBeUndefined();
    expect(refusal(pullUses([one, plain, plain], { baseAt: 2, toSubclusters: true }))).toBe(
      'LOSS_NOT_ACCEPTED LOSES_INTERNAL_SNAPSHOTS',
    );
    expect(
      refusal(commitUses([one, plain, one], { topAt: 1, baseAt: 2, deletes: true, sharedBy: undefined })),
    ).toBeUndefined();
  });
});

function pull(chain: readonly Image[], toSubclusters: boolean, baseAt?: number): string | undefined {
  return refusal(pullUses(chain, { baseAt, toSubclusters }));
}

it('an image with extended L2 entries is filled by a pull if QEMU supports that, and not read into others alone', () => {
  const [packed, plain] = [anImage({ path: '/e', extendedL2: true }), anImage({ path: '/p' })];
  expect(pull([packed, plain], false)).toBe('IMAGE_UNSUITABLE SUBCLUSTERS');
  expect(pull([packed, plain, plain], false, 2)).toBe('IMAGE_UNSUITABLE SUBCLUSTERS');
  expect(pull([packed, plain], true)).toBeUndefined();
  expect(pull([plain, packed], false)).toBeUndefined();
  // Nothing is pulled.
  expect(pull([packed], false)).toBeUndefined();
  expect(pull([packed, plain], false, 1)).toBeUndefined();
});

/** From the top down. */
function sized(...sizes: readonly number[]): readonly Image[] {
  return sizes.map((virtualSizeBytes, at) => anImage({ path: `/${at}`, virtualSizeBytes }));
}

function commitRefusal(chain: readonly Image[], topAt: number, baseAt: number): string | undefined {
  return refusal(commitUses(chain, { topAt, baseAt, deletes: false, sharedBy: undefined }));
}

describe('an image that is longer than one above it', () => {
  const LONGER = 'IMAGE_UNSUITABLE LONGER';

  it('is not shown in its whole length after a pull that removes the short one', () => {
    expect(refusal(pullUses(sized(3, 2, 3), { baseAt: 2, toSubclusters: true }))).toBe(LONGER);
    expect(refusal(pullUses(sized(3, 3, 2, 3), { baseAt: 3, toSubclusters: true }))).toBe(LONGER);
    expect(refusal(pullUses(sized(2, 2, 3), { baseAt: 2, toSubclusters: true }))).toBeUndefined();
    expect(refusal(pullUses(sized(3, 2, 2), { baseAt: 2, toSubclusters: true }))).toBeUndefined();
    expect(refusal(pullUses(sized(3, 3, 2, 3), { baseAt: 2, toSubclusters: true }))).toBeUndefined();
    expect(refusal(pullUses(sized(3, 2, 3), { baseAt: undefined, toSubclusters: true }))).toBeUndefined();
  });

  it('nor by a commit', () => {
    expect(commitRefusal(sized(3, 2, 3), 1, 2)).toBe(LONGER);
    expect(commitRefusal(sized(3, 3, 2, 3), 1, 3)).toBe(LONGER);
    expect(commitRefusal(sized(2, 2, 3), 1, 2)).toBeUndefined();
    expect(commitRefusal(sized(3, 2, 2, 3), 1, 2)).toBeUndefined();
  });

  it('nor does a guest get a longer disk when it is committed', () => {
    expect(commitRefusal(sized(2, 3), 0, 1)).toBe(LONGER);
    expect(commitRefusal(sized(3, 2), 0, 1)).toBeUndefined();
  });
});

it.each(['raw', 'qcow2'])('a plain image of driver %s is used for all', (format) => {
  const image = anImage({ path: '/i', format, storage: file });
  expect(refusal({ operation: 'COMMIT', uses: [{ image, roles: new Set(ROLES) }], into: image })).toBeUndefined();
});

function inWords({ uses }: Uses): string[] {
  return uses.map(({ roles }) => [...roles].join(' '));
}

describe('the effect of an operation on each image, the active one first', () => {
  const chain = ['/3', '/2', '/1', '/0'].map((path) => anImage({ path }));

  it.each<[string, Uses, readonly string[]]>([
    ['a whole copy', copyUses(chain, PLAINLY), ['READ LEFT', 'READ', 'READ', 'READ']],
    ['a shallow copy', copyUses(chain, { ...PLAINLY, topOnly: true, isNamed: true }), ['READ LEFT', 'NAMED', '', '']],
    ['one with a chain of its own', copyUses(chain, { ...PLAINLY, topOnly: true }), ['READ LEFT', '', '', '']],
    [
      'a pull',
      pullUses(chain, { baseAt: undefined, toSubclusters: true }),
      ['FILLED RELINKED CUT', 'READ', 'READ', 'READ'],
    ],
    [
      'a pull to a base',
      pullUses(chain, { baseAt: 2, toSubclusters: true }),
      ['FILLED RELINKED CUT', 'READ', 'NAMED', ''],
    ],
    [
      'a commit of lower images',
      commitUses(chain, { topAt: 1, baseAt: 3, deletes: false, sharedBy: undefined }),
      ['RELINKED', 'READ LEFT', 'READ LEFT', 'FILLED NAMED'],
    ],
    [
      'a commit of the active image, which is deleted',
      commitUses(chain, { topAt: 0, baseAt: 1, deletes: true, sharedBy: undefined }),
      ['READ LEFT DELETED', 'FILLED NAMED', '', ''],
    ],
  ])('%s', (_name, uses, roles) => {
    expect(inWords(uses)).toEqual(roles);
  });
});
