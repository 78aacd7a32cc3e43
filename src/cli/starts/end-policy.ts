/** The options of a copy for the case that it does not end. */
import { type Command, Option } from 'commander';
import { AtDeadline, type EndPolicy, fromMs } from '../../client/index.ts';
import { bandwidthFrom, parseBandwidth, parseDuration } from '../units.ts';

export interface PolicyFlags {
  readonly bytes?: boolean;
  readonly patience?: number;
  readonly bandwidthCeiling?: string;
  readonly switchToBlocking?: boolean;
  readonly chooseGranularity?: boolean;
  readonly atDeadline?: keyof typeof AT_DEADLINE;
  readonly maxGuestPause?: number;
}

const AT_DEADLINE = {
  abort: AtDeadline.AT_DEADLINE_ABORT,
  hold: AtDeadline.AT_DEADLINE_HOLD,
  'pause-guest': AtDeadline.AT_DEADLINE_PAUSE_GUEST,
};

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
  const given = [patience, bandwidthCeiling, switchToBlocking, chooseGranularity, atDeadline, maxGuestPause];
  if (given.every((one) => one === undefined)) return undefined;
  return {
    patience: patience === undefined ? undefined : fromMs(patience),
    bandwidthCeilingBytesPerSecond: bandwidthFrom(bandwidthCeiling ?? '0', flags.bytes ?? false),
    switchToBlocking: switchToBlocking ?? false,
    chooseGranularity: chooseGranularity ?? false,
    atDeadline: atDeadline === undefined ? AtDeadline.AT_DEADLINE_UNSPECIFIED : AT_DEADLINE[atDeadline],
    maxGuestPause: maxGuestPause === undefined ? undefined : fromMs(maxGuestPause),
  };
}
