import { describe, expect, it } from 'vitest';
import { accessOfNew, type FileAccess, type FileUser } from '../../../../src/core/plans/file-access.ts';

const SOURCE = { uid: 107, gid: 36, mode: 0o660 };
const ROOT = { uid: 0, gid: 0, groups: [] };
const QEMU = { uid: 107, gid: 107, groups: [36] };

function access(sourceAccess: FileAccess | undefined, qemu: FileUser | undefined, service: FileUser = ROOT) {
  return accessOfNew({ path: '/new', source: '/old', sourceAccess, qemu, service });
}

const AS_THE_SOURCE = { owner: { uid: 107, gid: 36 }, mode: 0o660, toSet: [] };
const FOR_QEMU_ALONE = { owner: { uid: 107, gid: 107 }, mode: 0o600 };

describe('a new file', () => {
  it.each([
    ['owner', QEMU],
    ['group', { uid: 5, gid: 36, groups: [] }],
    ['one of its groups', { uid: 5, gid: 5, groups: [4, 36] }],
    ['root', ROOT],
    ['somebody who is not seen', undefined],
  ])('is as the source where QEMU may open that as %s', (_as, qemu) => {
    expect(access(SOURCE, qemu)).toEqual(AS_THE_SOURCE);
  });

  it.each([
    ['is neither owner nor in the group', { ...SOURCE, uid: 0, gid: 0 }],
    ['is the owner and may only read', { ...SOURCE, mode: 0o460 }],
    ['is in the group, which may only read', { uid: 0, gid: 36, mode: 0o646 }],
  ])('is for QEMU alone, and a note says so, if QEMU %s', (_why, source) => {
    const { toSet, ...rest } = access(source, QEMU);
    expect(rest).toEqual(FOR_QEMU_ALONE);
    expect(toSet).toEqual([
      expect.stringContaining(`owner ${source.uid}:${source.gid} and mode ${source.mode.toString(8)}`),
    ]);
  });

  it.each([
    { uid: 107, gid: 107, groups: [36] },
    { uid: 107, gid: 36, groups: [] },
  ])('of the service %j can have the rights of the source', (service) => {
    expect(access(SOURCE, QEMU, service)).toEqual(AS_THE_SOURCE);
  });

  it.each([
    { uid: 107, gid: 107, groups: [] },
    { uid: 1000, gid: 36, groups: [] },
  ])('of the service %j cannot, and a note says so', (service) => {
    const { mode, toSet } = access(SOURCE, QEMU, service);
    expect({ mode, toSet }).toEqual({ mode: 0o600, toSet: [expect.stringContaining('set them on /new')] });
  });

  it('is for QEMU alone if the source is not on this host, and nothing is reported', () => {
    expect(access(undefined, QEMU)).toEqual({ ...FOR_QEMU_ALONE, toSet: [] });
    expect(access(undefined, undefined)).toEqual({ owner: undefined, mode: 0o600, toSet: [] });
  });
});
