/** The options of a copy for the case that it does not end. */
import { type Command, Option } from 'commander';
import { AtDeadline, type EndPolicy, fromMs } from '../../client/index.ts';
import { UsageError } from '../terminal.ts';
import { bandwidthFrom, parseBandwidth, parseDuration, parseSize } from '../units.ts';

export interface PolicyFlags {
  readonly bytes?: boolean;
  readonly patience?: number;
  readonly bandwidthCeiling?: string;
  readonly switchToBlocking?: boolean;
  readonly chooseGranularity?: boolean;
  readonly atDeadline?: keyof typeof AT_DEADLINE;
  readonly maxGuestPause?: number;
  readonly throttleGuest?: bigint;
  readonly throttleFor?: number;
}

const AT_DEADLINE = {
  abort: AtDeadline.AT_DEADLINE_ABORT,
  hold: AtDeadline.AT_DEADLINE_HOLD,
  'pause-guest': AtDeadline.AT_DEADLINE_PAUSE_GUEST,
};

/** The copy may slow the guest down for ten minutes, unless the caller says otherwise. */
const THROTTLE_FOR_MS = 600_000;

export function addEndPolicy(command: Command): Command {
  return command
    .option('--choose-granularity', 'choose the granularity by the guest’s writes so far')
    .option(
      '--bandwidth-ceiling <speed>',
      'if the copy does not end because of --bandwidth, lift that limit to this one',
      parseBandwidth,
    )
    .option(
      '--switch-to-blocking',
      'if the copy does not end, and its rest is near, let the guest’s writes wait for it (QEMU 8.2)',
    )
    .option(
      '--throttle-guest <floor>',
      'if the copy does not end, slow the guest’s writes down, to this a second at least',
      parseSize,
    )
    .option('--throttle-for <time>', 'with --throttle-guest, for this time at most; default: 10m', parseDuration)
    .option('--patience <time>', 'wait so long before such a step, and between two; default: 60', parseDuration)
    .addOption(
      new Option('--at-deadline <what>', 'the action when --timeout has passed; default: abort').choices(
        Object.keys(AT_DEADLINE),
      ),
    )
    .option(
      '--max-guest-pause <time>',
      'with --at-deadline pause-guest, pause it at most so long: 0.5, 5',
      parseDuration,
    );
}

/** Undefined if no option asks for one. */
export function endPolicyFrom(flags: PolicyFlags): EndPolicy | undefined {
  const { patience, bandwidthCeiling, switchToBlocking, chooseGranularity, atDeadline, maxGuestPause } = flags;
  const { throttleGuest: floor, throttleFor } = flags;
  if (floor === undefined && throttleFor !== undefined) throw new UsageError('--throttle-for needs --throttle-guest');
  const given = [patience, bandwidthCeiling, switchToBlocking, chooseGranularity, atDeadline, maxGuestPause, floor];
  if (given.every((one) => one === undefined)) return undefined;
  return {
    patience: patience === undefined ? undefined : fromMs(patience),
    bandwidthCeilingBytesPerSecond: bandwidthFrom(bandwidthCeiling ?? '0', flags.bytes ?? false),
    switchToBlocking: switchToBlocking ?? false,
    chooseGranularity: chooseGranularity ?? false,
    atDeadline: atDeadline === undefined ? AtDeadline.AT_DEADLINE_UNSPECIFIED : AT_DEADLINE[atDeadline],
    maxGuestPause: maxGuestPause === undefined ? undefined : fromMs(maxGuestPause),
    guestThrottle:
      floor === undefined
        ? undefined
        : { floorBytesPerSecond: floor, maxDuration: fromMs(throttleFor ?? THROTTLE_FOR_MS) },
  };
}
