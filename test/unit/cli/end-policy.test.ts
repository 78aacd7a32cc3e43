/** The options of a copy for the case that it does not end, as a part of its request. */
import { Command } from 'commander';
import { expect, it } from 'vitest';
import { copy } from '../../../src/cli/starts/copy.ts';
import { endPolicyFrom } from '../../../src/cli/starts/end-policy.ts';
import { AtDeadline, EndPolicy } from '../../../src/client/index.ts';

function policyOf(line: string): EndPolicy | undefined {
  const words = ['vm1', 'vd0', '/copy', ...line.split(' ').filter((word) => word !== '')];
  const command = copy.define(new Command().argument('<domain>').argument('<disk>')).exitOverride();
  return endPolicyFrom(command.parse(words, { from: 'user' }).opts());
}

const policy = (more: Partial<EndPolicy>) => EndPolicy.fromPartial(more);

it.each<[line: string, expected: EndPolicy | undefined]>([
  ['', undefined],
  ['--timeout 9 --granularity 4096', undefined],
  ['--choose-granularity', policy({ chooseGranularity: true })],
  ['--bandwidth-ceiling 2', policy({ bandwidthCeilingBytesPerSecond: 2n << 20n })],
  ['--bandwidth-ceiling 1.5GiB', policy({ bandwidthCeilingBytesPerSecond: 3n << 29n })],
  ['--bandwidth-ceiling 7 --bytes', policy({ bandwidthCeilingBytesPerSecond: 7n })],
  ['--switch-to-blocking', policy({ switchToBlocking: true })],
  ['--patience 5m', policy({ patience: { seconds: 300n, nanos: 0 } })],
  ['--at-deadline abort', policy({ atDeadline: AtDeadline.AT_DEADLINE_ABORT })],
  ['--at-deadline hold', policy({ atDeadline: AtDeadline.AT_DEADLINE_HOLD })],
  [
    '--at-deadline pause-guest --max-guest-pause 0.5',
    policy({ atDeadline: AtDeadline.AT_DEADLINE_PAUSE_GUEST, maxGuestPause: { seconds: 0n, nanos: 500_000_000 } }),
  ],
])('copy %s', (line, expected) => {
  expect(policyOf(line)).toEqual(expected);
});
