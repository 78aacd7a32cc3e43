// The expected result differs between the cases.
/* oxlint-disable vitest/no-conditional-expect, vitest/expect-expect, vitest/valid-title, unicorn/consistent-function-scoping */
/**
 * Every recorded case of libvirt's virDomainBlockRebase, asked of Rebase through gRPC with a real QEMU: the same
 * verdict for the same reason, and of what is accepted the same image in the same place. The table of differences lists
 * the intended differences.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { expectWell, present } from '../support/checks.ts';
import { type Accepted, isSame, leavesZeroesOut, reasonsOf } from '../support/golden/golden.ts';
import { DEVICE_BYTES, type SourceKind } from '../support/golden/golden-images.ts';
import {
  CASES,
  DESTINATION,
  DIFFERENCES,
  expectedOf,
  flagsOf,
  libvirts,
  type RebaseCase,
  titleOf,
} from '../support/golden/golden-rebase.ts';
import { type Devices, World } from '../support/golden/golden-world.ts';
import { LoopDevice } from '../support/images/loop-device.ts';
import { needs } from '../support/means.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { byId } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const SOURCES = ['qcow2-chain', 'qcow2-chain-rel', 'raw'] as const satisfies readonly SourceKind[];
const noDevices = needs('loop');

test('the table of differences: each occurs, each differs, and all other cases are as in libvirt', () => {
  expect(CASES).toHaveLength(1010);
  const found = new Map<string, number>(DIFFERENCES.map(({ name }) => [name, 0]));
  for (const one of CASES) {
    const { expected, difference } = expectedOf(one);
    if (difference === undefined) continue;
    found.set(difference, present(found.get(difference)) + 1);
    expect(isSame(expected, libvirts(one)), `${titleOf(one)} does not differ: ${difference}`).toBe(false);
  }
  expect(Object.fromEntries(found)).toMatchInlineSnapshot(`
    {
      "a block device is not formatted unasked": 5,
      "a block device is one without COPY_DEV too": 10,
      "a block device is probed, and zeroes are not a format": 12,
      "a folder cannot be a destination, whatever the flags": 11,
      "a full copy keeps the backing file of the image that is reused": 2,
      "a relative backing name is written": 2,
      "an empty base means no base": 2,
      "an image that cannot be probed is not taken for raw": 14,
      "errors of the arguments alone are reported before a disk is looked at": 6,
      "sizes are compared before the start": 17,
      "with a relative backing name, the destination is checked as without it": 18,
    }
  `);
});

describe.skipIf(needs('qemu'))('blockRebase as libvirt has it', () => {
  const held = new AsyncDisposableStack();
  let service: Service;
  let sockets: string;
  let devices: Devices | undefined;

  beforeAll(async () => {
    const { path } = held.use(await testDir());
    sockets = held.use(await testDir('bj-qmp-')).path;
    if (!noDevices) {
      devices = {
        'blockdev-64M': held.use(await LoopDevice.make(path, DEVICE_BYTES['blockdev-64M'])),
        'blockdev-80M': held.use(await LoopDevice.make(path, DEVICE_BYTES['blockdev-80M'])),
      };
    }
    service = held.use(await Service.start({ dir: path, qmpDir: sockets, allow: ['/tmp', path, '/dev'] }));
  });
  afterAll(async () => {
    try {
      if (service !== undefined) expectWell(service);
    } finally {
      await held.disposeAsync();
    }
  });

  describe.each(SOURCES)('%s', (source) => {
    let world: World;
    beforeAll(async () => {
      const { path: folder } = held.use(await testDir());
      world = held.use(await World.make({ folder, source, service, sockets, devices }));
    });
    afterAll(async () => {
      await world?.spent();
    });

    // Sorted by destination, so that it is made once for all refused cases.
    const cases = CASES.filter((one) => one.source === source).toSorted(
      (a, b) => String(a.dest).localeCompare(String(b.dest)) || a.case - b.case,
    );
    for (const one of cases) {
      test(titleOf(one), async ({ skip }) => {
        skip(noDevices && one.dest?.startsWith('blockdev') === true, 'no block devices');
        await replay(world, one);
      });
    }
  });

  async function replay(world: World, one: RebaseCase): Promise<void> {
    const { expected } = expectedOf(one, await leavesZeroesOut());
    await world.lay(one.dest ?? 'absent');
    const disk = await world.disk();
    const base = world.here(one.base ?? '');
    const answer = await service
      .rebase({ disk, base, flags: flagsOf(one), bandwidth: BigInt(one.bandwidth) })
      .catch((error: unknown) => reasonsOf(error));
    if ('id' in answer) {
      if (expected.verdict === 'accepted') await follow(world, one, answer.id, expected);
      else await world.spent();
      expect('accepted', 'the verdict').toBe(expected.verdict);
      return;
    }
    const changes = await world.changes();
    if (changes.length > 0) await world.spent();
    expect(changes, 'the changes of a refused call').toEqual([]);
    const reasons = expected.verdict === 'refused' ? expected.reasons : [];
    const agrees = answer.some((reason) => reasons.some((other) => other === reason));
    expect({ verdict: 'refused', reasons: agrees ? reasons : answer }).toEqual(expected);
  }

  async function follow(world: World, one: RebaseCase, id: string, expected: Accepted): Promise<void> {
    try {
      if (expected.end === 'completes') {
        await service.until(id, 'STATE_COMPLETED');
      } else {
        await service.until(id, 'STATE_READY');
        const pivot = expected.end === 'pivot';
        const ended = await service.abort({ job: byId(id), pivot });
        expect(ended.state).toBe(pivot ? Job_State.STATE_COMPLETED : Job_State.STATE_CANCELLED);
      }
      const { outcome } = await service.getInfo(id);
      expect(world.there(outcome?.guestWritesTo ?? '')).toBe(expected.chain[0]);
      const chain = await world.chain();
      // QEMU has everything on disk when it has closed the image.
      if (expected.end !== 'abort') await world.spent();
      const path = world.here(expected.end === 'completes' ? present(expected.chain[0]) : (one.base ?? DESTINATION));
      const found = {
        verdict: 'accepted',
        end: expected.end,
        image: await world.image(path),
        identical: await world.isIdentical(path),
        chain,
      };
      expect(found).toEqual(expected);
      const mayChange = expected.end === 'completes' ? [path] : [];
      expect((await world.changedSources()).filter((source) => !mayChange.includes(source))).toEqual([]);
    } finally {
      if (expected.end === 'abort') world.used();
      else await world.spent();
    }
  }
});
