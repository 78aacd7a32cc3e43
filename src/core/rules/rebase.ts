/**
 * The rules of Rebase that need only the request: a pull without COPY, a copy with it. Source: libvirt's
 * virDomainBlockRebase, and the patch that added COPY.
 */

import { type Violation, violation } from '../errors.ts';
import { type Accept, type JobOptions, plainOptions } from '../job-options.ts';
import type { RebaseFlag, RebaseRequest } from '../requests.ts';
import { absolutePath, acceptedIn, bandwidthIn, bytesPerSecond, flagsOf } from './rule.ts';
import { type CopySpec, relativeBacking } from './start-copy.ts';

export interface PullSpec {
  /** The name in the request; '' for none. */
  readonly base: string;
  readonly options: JobOptions;
  readonly accept: ReadonlySet<Accept>;
}

export type RebaseSpec =
  | { readonly does: 'copy'; readonly copy: CopySpec }
  | { readonly does: 'pull'; readonly pull: PullSpec };

const COPY_ONLY = ['SHALLOW', 'REUSE_EXT', 'COPY_RAW', 'COPY_DEV'] as const satisfies readonly RebaseFlag[];

/** Throws all violations of the request together. */
export function parseRebase(request: RebaseRequest): RebaseSpec {
  const { flags, violations } = flagsOf(request.flags);
  const unit = flags.has('BANDWIDTH_BYTES') ? 'BYTES' : 'MIB';
  const copy = flags.has('COPY');
  const accept = acceptedIn(request, [
    ...(copy ? copyRules(request.base, flags) : pullRules(request.base, flags)),
    ...violations,
    ...bandwidthIn(unit, request.bandwidth),
  ]);
  const options = plainOptions(bytesPerSecond(unit, request.bandwidth));
  const relative = flags.has('RELATIVE');
  if (!copy)
    return { does: 'pull', pull: { base: request.base, accept, options: { ...options, relativeBacking: relative } } };
  return {
    does: 'copy',
    copy: {
      destination: { kind: 'file', path: request.base, ...(flags.has('COPY_DEV') ? { mustBeDevice: true } : {}) },
      accept,
      format: flags.has('COPY_RAW') ? 'RAW' : undefined,
      encryption: undefined,
      options: {
        ...options,
        shallow: flags.has('SHALLOW'),
        reuseExternal: flags.has('REUSE_EXT'),
        relativeBacking: relative,
        overcommit: request.overcommit,
      },
    },
  };
}

function copyRules(base: string, flags: ReadonlySet<RebaseFlag>): Violation[] {
  const why = 'with COPY it is the destination';
  return [
    ...relativeBacking(flags.has('RELATIVE'), {
      shallow: flags.has('SHALLOW'),
      reuse: flags.has('REUSE_EXT'),
      raw: flags.has('COPY_RAW'),
    }),
    ...(base === '' ? [violation('base', 'BASE_REQUIRED', { field: 'base', why })] : absolutePath('base', base)),
  ];
}

function pullRules(base: string, flags: ReadonlySet<RebaseFlag>): Violation[] {
  const why = 'RELATIVE needs a backing image to name';
  return [
    ...COPY_ONLY.filter((flag) => flags.has(flag)).map((flag) => violation('flags', 'FLAG_REQUIRES_COPY', { flag })),
    ...(flags.has('RELATIVE') && base === '' ? [violation('base', 'BASE_REQUIRED', { field: 'base', why })] : []),
  ];
}
