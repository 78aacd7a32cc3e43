/** The answers of libvirt in the other recorded cases, and each intended difference. */
import { RebaseFlag } from '../../../generated/blockjob/v1/block_job_service.ts';
import { ImageFormat } from '../../../generated/blockjob/v1/job.ts';
import { type Reason, type RecordedError, type Refused, reasonsFor } from './golden.ts';
import { askOf, type Call, type Final, isStart, type OtherCase } from './golden-other.ts';
import { DESTINATION } from './golden-rebase.ts';

export type Verdict = Refused | { readonly verdict: 'accepted' } | { readonly verdict: 'started and failed' };

/** The answer of libvirt, and the end of a job that turned out to be impossible only later. */
export function libvirts(one: OtherCase, step: Call): Verdict {
  if (step.error !== undefined) return { verdict: 'refused', reasons: libvirtsReasons(step.error) };
  const next = one.steps[one.steps.indexOf(step) + 1];
  const failed = isStart(step) && next !== undefined && 'wait' in next && next.wait === 'FAILED';
  return { verdict: failed ? 'started and failed' : 'accepted' };
}

function libvirtsReasons(error: RecordedError): readonly Reason[] {
  // No answer of this service says so; the existing difference explains it.
  return error.message.endsWith(NOT_TRANSIENT) ? [] : reasonsFor(error);
}

const NOT_TRANSIENT = 'domain is not transient';

export interface StepDifference {
  readonly name: string;
  readonly why: string;
  readonly when: (one: OtherCase, step: Call) => boolean;
  readonly ours: Refused | { readonly verdict: 'accepted' };
}

function refused(...reasons: readonly Reason[]): Refused {
  return { verdict: 'refused', reasons };
}

/** In this order: the first difference that fits a step gives the expected result. */
export const DIFFERENCES: readonly StepDifference[] = [
  {
    name: 'a domain need not be transient',
    why: 'libvirt keeps the configuration of a domain, and could not start it again; this service has no configuration',
    when: (_, { error }) => error?.message.endsWith(NOT_TRANSIENT) === true,
    ours: { verdict: 'accepted' },
  },
  {
    name: 'an error of the bandwidth is reported before anything else',
    why: 'the service: arguments that are wrong are reported before a disk is looked at',
    when: (_, step) => {
      const ask = askOf(step);
      return (
        ask.rpc === 'rebase' &&
        ask.bandwidth > 8796093022207n &&
        !ask.flags.includes(RebaseFlag.REBASE_FLAG_BANDWIDTH_BYTES) &&
        step.error?.code === 83
      );
    },
    ours: refused('BANDWIDTH_OUT_OF_RANGE'),
  },
  {
    name: 'a busy disk is said to be busy before its images are looked for',
    why: 'one order for all calls: actions of others on the disk may change its chain at any moment',
    when: (one, step) => one.group === 'order' && askOf(step).rpc === 'commit' && step.error?.code === 8,
    ours: refused('BLOCK_COPY_ACTIVE'),
  },
  {
    name: 'a drive without a medium is said to be one',
    why: 'DISK_EMPTY; libvirt looks for an image in a chain that is not there',
    when: (_, step) => isStart(step) && step.args[0] === 'sda' && step.error?.code === 8,
    ours: refused('DISK_EMPTY'),
  },
  {
    name: 'a path that is neither a file nor a block device is refused before QEMU is asked',
    why: 'libvirt lets QEMU refuse it',
    when: (one, { error }) => one.dest === 'character-device' && error?.code === 1,
    ours: refused('FIELD_INVALID', 'DESTINATION_EXISTS'),
  },
  {
    name: 'an image that cannot be probed is not taken for raw',
    why: 'ImageFormat, and the seed: a guest can make a raw image look like any other',
    when: (one, step) => {
      const { error } = step;
      if (error !== undefined || !isStart(step)) return false;
      const ask = askOf(step);
      const probes =
        ask.rpc === 'rebase'
          ? ask.flags.includes(RebaseFlag.REBASE_FLAG_REUSE_EXT) && !ask.flags.includes(RebaseFlag.REBASE_FLAG_COPY_RAW)
          : ask.rpc === 'startCopy' && ask.reuseExternal && ask.format === ImageFormat.IMAGE_FORMAT_UNSPECIFIED;
      const kinds: readonly unknown[] = ['raw-zero', 'zero-length-file', 'luks', 'flat-snap1-raw'];
      return probes && kinds.includes(one.dest);
    },
    ours: refused('FORMAT_UNKNOWN'),
  },
  {
    name: 'a qcow2 of version 2 with a backing file takes no full copy',
    why: 'it cannot mark zeroes: after a restart the backing file shows through; libvirt makes such a wrong copy',
    when: (one, step) => one.dest === 'over-other-v2' && one.source === 'raw' && isStart(step),
    ours: refused('FORMAT_UNKNOWN'),
  },
  {
    name: 'an empty image over nothing is not taken for the image below the active one',
    why: 'REUSED_UNLIKE: libvirt takes whatever is there, and the copy is another disk',
    when: (one, step) => {
      if (step.error !== undefined || !isStart(step) || one.dest !== 'qcow2-empty' || one.source !== 'qcow2-chain')
        return false;
      const ask = askOf(step);
      return ask.rpc === 'startCopy' && ask.shallow && ask.reuseExternal && ask.format !== ImageFormat.IMAGE_FORMAT_RAW;
    },
    ours: refused('REUSED_UNLIKE'),
  },
  {
    name: 'sizes are compared before the start',
    why: 'SIZE_MISMATCH: libvirt starts the job, which fails',
    when: (one, step) => libvirts(one, step).verdict === 'started and failed',
    ours: refused('SIZE_MISMATCH'),
  },
];

export function expectedOf(one: OtherCase, step: Call): { readonly expected: Verdict; readonly difference?: string } {
  const difference = DIFFERENCES.find(({ when }) => when(one, step));
  if (difference !== undefined) return { expected: difference.ours, difference: difference.name };
  return { expected: libvirts(one, step) };
}

export interface FinalDifference {
  readonly name: string;
  readonly why: string;
  readonly when: (one: OtherCase) => boolean;
  readonly ours: (final: Final, one: OtherCase) => Final;
}

/** Used if a step says so. */
export const NEVER_REMOVED = {
  name: 'a file that a job did not make is never removed',
  why: 'StartCopy: libvirt removes any destination of zero length when a start fails, device nodes too',
  when: ({ steps }: OtherCase) => steps.some((step) => 'still_there' in step && !step.still_there),
};

/** Each difference that fits a case changes the expected final state. */
const KEEPS_BACKING: FinalDifference = {
  name: 'a full copy keeps the backing file of the image that is reused',
  why: 'as its header says; libvirt leaves it out until the next start, and QEMU 11.1 makes such a copy wrong',
  when: (one) => one.final.chain !== undefined && chainOf(one, one.final.chain) !== one.final.chain,
  ours: (final, one) => ({ ...final, chain: chainOf(one, final.chain ?? []) }),
};

export const FINAL_DIFFERENCES: readonly FinalDifference[] = [
  {
    name: 'an incomplete copy is removed by the job that made it',
    why: 'StartCopy: before READY it is rubbish; libvirt leaves it there',
    when: ({ steps, final }) =>
      final.identical === false &&
      final.image !== undefined &&
      steps.some((step) => 'wait' in step && step.wait === 'CANCELED') &&
      !steps.some((step) => 'wait' in step && step.wait === 'READY'),
    ours: ({ image: _image, identical: _identical, ...rest }) => rest,
  },
  KEEPS_BACKING,
];

/** The chain at a step or at the end, with this service. */
export function chainOf({ dest }: OtherCase, chain: readonly string[], zeroesLeftOut = true): readonly string[] {
  return zeroesLeftOut && dest === 'over-other-v3' && chain[0] === DESTINATION
    ? [...chain, '/vm/dst/under.raw']
    : chain;
}

export function finalOf(one: OtherCase, zeroesLeftOut: boolean): Final {
  const differences = FINAL_DIFFERENCES.filter((difference) => zeroesLeftOut || difference !== KEEPS_BACKING);
  return differences.filter(({ when }) => when(one)).reduce((final, { ours }) => ours(final, one), one.final);
}
