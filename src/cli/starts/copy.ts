/** `blockjob copy`: StartCopy, with the options of `virsh blockcopy`. */
import { type Command, Option } from 'commander';
import { fromMs, OnNoSpace, OnReady, PauseGuest, type StartCopyRequest, WriteMode } from '../../client/index.ts';
import { type DestinationFlags, destinationFrom } from '../destination.ts';
import { UsageError } from '../terminal.ts';
import { parseSize } from '../units.ts';
import { addEndPolicy, endPolicyFrom, type PolicyFlags } from './end-policy.ts';
import {
  addBandwidth,
  addConfigOwner,
  addStarting,
  addTimeout,
  type StartCommand,
  type StartFlags,
  startOf,
  type WantedJob,
} from './start.ts';

interface CopyFlags extends StartFlags, DestinationFlags, PolicyFlags {
  readonly dest?: string;
  readonly shallow?: boolean;
  readonly reuseExternal?: boolean;
  readonly relative?: boolean;
  readonly verifyReused?: boolean;
  readonly granularity?: bigint;
  readonly bufSize?: bigint;
  readonly synchronousWrites?: boolean;
  readonly overcommit?: boolean;
  readonly onNoSpace?: keyof typeof ON_NO_SPACE;
  readonly pauseGuest?: keyof typeof PAUSE_GUEST;
}

const ON_NO_SPACE = { pause: OnNoSpace.ON_NO_SPACE_PAUSE, fail: OnNoSpace.ON_NO_SPACE_FAIL };
export const PAUSE_GUEST = {
  auto: PauseGuest.PAUSE_GUEST_AUTO,
  always: PauseGuest.PAUSE_GUEST_ALWAYS,
  never: PauseGuest.PAUSE_GUEST_NEVER,
};

export const copy: StartCommand = {
  name: 'copy',
  alias: 'blockcopy',
  summary: 'copy a disk to another image while the guest writes to it',
  example: 'blockjob copy web1 virtio0 /var/lib/images/web1-new.qcow2 --wait --verbose --pivot',
  define(command: Command): Command {
    command
      .argument('[dest...]', 'the destination: /PATH, nbd://HOST/EXPORT; then DISK DEST for more disks')
      .option('--dest <path>', 'the destination, as in virsh')
      .option('--shallow', 'copy the active image only, over the same backing file')
      .option('--reuse-external', 'use an existing destination')
      .option('--verify-reused', 'with --shallow and --reuse-external, first compare the reused data')
      .option('--blockdev', 'the destination is a block device')
      .addOption(new Option('--format <format>', 'the format of the destination').choices(['raw', 'qcow2']))
      .option('--raw', 'the same as --format raw')
      .option('--encryption-secret <id>', 'encrypt it (qcow2 with LUKS) with the key of this secret object in QEMU')
      .option('--relative', 'with --shallow, name the backing file relative to the copy’s folder')
      .option('--synchronous-writes', 'a guest’s write ends only after the copy’s: slower, always converges');
    addBandwidth(command)
      .option('--granularity <size>', 'dirty tracking granularity, a power of two', parseSize)
      .option('--buf-size <size>', 'buffer for data in flight, at least 16MiB', parseSize)
      .option('--pivot', 'implies --wait; pivots to the copy at READY, even if this command has ended')
      .option('--finish', 'implies --wait; ends the copy at READY, and the guest stays on the source');
    addConfigOwner(addTimeout(command, 'even if this command has ended'))
      .addOption(new Option('--on-no-space <what>', 'action on a full destination').choices(Object.keys(ON_NO_SPACE)))
      .addOption(new Option('--pause-guest <when>', 'pause the guest for the pivot').choices(Object.keys(PAUSE_GUEST)))
      .option('--overcommit', 'start, and pivot, even if there is less space than is needed')
      .option('--nbd-tls-creds <id>', 'the id of the tls-creds-x509 object in QEMU')
      .option('--nbd-tls-hostname <name>', 'the name in the NBD server’s certificate')
      .option('--transient-job', 'accepted for virsh; has no effect, because every job is transient');
    return addStarting(addEndPolicy(command));
  },
  asked: (args, flags: CopyFlags) => {
    const [domain = '', ...words] = args;
    const pairs = pairsOf(flags.dest === undefined ? words : [...words, flags.dest]);
    if (pairs.length > 1 && flags.requestId !== undefined) throw new UsageError('--request-id is for one disk only');
    if (flags.pivot === true && flags.finish === true) throw new UsageError('--pivot and --finish exclude each other');
    return pairs.map(([disk, dest]) => askedFor(domain, disk, dest, flags));
  },
  goal: ({ pivot, finish }) => ({
    // The service does it itself.
    atReady: 'nothing',
    endsByItself: pivot === true || finish === true,
    keepsGuest: finish === true,
    timeoutMs: undefined,
  }),
};

function pairsOf(words: readonly string[]): (readonly [string, string])[] {
  if (words.length < 2 || words.length % 2 !== 0) {
    throw new UsageError('give DOMAIN DISK DEST, and for more disks DISK DEST again');
  }
  return words.flatMap((disk, index) => (index % 2 === 0 ? [[disk, words[index + 1] ?? ''] as const] : []));
}

function askedFor(domain: string, disk: string, dest: string, flags: CopyFlags): WantedJob {
  const { bandwidth: bandwidthBytesPerSecond, ...start } = startOf(domain, disk, flags);
  const request: Partial<StartCopyRequest> = {
    ...start,
    destination: destinationFrom(dest, flags),
    shallow: flags.shallow ?? false,
    reuseExternal: flags.reuseExternal ?? false,
    relativeBacking: flags.relative ?? false,
    verifyReused: flags.verifyReused ?? false,
    bandwidthBytesPerSecond,
    granularityBytes: flags.granularity ?? 0n,
    bufferBytes: flags.bufSize ?? 0n,
    writeMode: flags.synchronousWrites === true ? WriteMode.WRITE_MODE_BLOCKING : WriteMode.WRITE_MODE_UNSPECIFIED,
    onReady: onReadyOf(flags),
    onNoSpace: flags.onNoSpace === undefined ? OnNoSpace.ON_NO_SPACE_UNSPECIFIED : ON_NO_SPACE[flags.onNoSpace],
    overcommit: flags.overcommit ?? false,
    pauseGuest: flags.pauseGuest === undefined ? PauseGuest.PAUSE_GUEST_UNSPECIFIED : PAUSE_GUEST[flags.pauseGuest],
    timeLimit: flags.timeout === undefined ? undefined : fromMs(flags.timeout),
    endPolicy: endPolicyFrom(flags),
  };
  return {
    label: `${domain}/${disk}`,
    send: async (client, validateOnly, call) => await client.startCopy({ ...request, validateOnly }, call),
  };
}

function onReadyOf({ pivot, finish }: CopyFlags): OnReady {
  if (pivot === true) return OnReady.ON_READY_PIVOT;
  return finish === true ? OnReady.ON_READY_FINISH : OnReady.ON_READY_HOLD;
}
