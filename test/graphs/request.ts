/** A move as a request to the service. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  CommitFlag,
  CommitRequest,
  RebaseFlag,
  RebaseRequest,
  StartCopyRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import type { Job } from '../../generated/blockjob/v1/job.ts';
import { type Accept, ImageFormat, OnReady, WriteMode } from '../../generated/blockjob/v1/job.ts';
import { run } from '../support/real-qemu/qemu.ts';
import type { Service } from '../support/service/service.ts';
import type { Chain } from './chain.ts';
import { read } from './cold.ts';
import type { Contents } from './contents.ts';
import { relativeName } from './images.ts';
import type { CopyMove, Move } from './move.ts';
import { DISK } from './vm.ts';

/** A slow copy, so that a guest can write meanwhile. */
const SLOW = 128n << 10n;
const FORMATS = {
  raw: ImageFormat.IMAGE_FORMAT_RAW,
  qcow2: ImageFormat.IMAGE_FORMAT_QCOW2,
  default: ImageFormat.IMAGE_FORMAT_UNSPECIFIED,
} as const;

export type Start = (service: Service, accept: readonly Accept[]) => Promise<Job>;

export interface Asked {
  readonly domain: string;
  readonly move: Move;
  readonly chain: Chain;
  /** The destination of a copy. */
  readonly copy: string | undefined;
  readonly shows: Contents;
  readonly scratch: string;
  readonly under: readonly string[];
}

/** Makes the image for a reuse. */
export async function startOf(asked: Asked): Promise<Start> {
  const { move, copy } = asked;
  if (move.what === 'copy' && copy !== undefined) {
    await mkdir(dirname(copy), { recursive: true });
    if (move.destination !== 'new') await makeReused(copy, move, asked);
    return copyStart(asked, move, copy);
  }
  const disk = { domain: asked.domain, disk: DISK };
  const bandwidth = move.isSlow || move.ending === 'early' ? SLOW : 0n;
  if (move.what === 'pull') {
    const flags: RebaseFlag[] = [RebaseFlag.REBASE_FLAG_BANDWIDTH_BYTES];
    if (move.isRelative) flags.push(RebaseFlag.REBASE_FLAG_RELATIVE);
    const base = move.base === undefined ? '' : indexed(move.base);
    return async (service, accept) =>
      await service.rebase(RebaseRequest.fromPartial({ disk, base, flags, bandwidth, accept: [...accept] }));
  }
  if (move.what === 'copy') throw new Error('a copy without a place');
  const flags: CommitFlag[] = [CommitFlag.COMMIT_FLAG_BANDWIDTH_BYTES];
  if (move.top === 0) flags.push(CommitFlag.COMMIT_FLAG_ACTIVE);
  if (move.deletes) flags.push(CommitFlag.COMMIT_FLAG_DELETE);
  if (move.isRelative) flags.push(CommitFlag.COMMIT_FLAG_RELATIVE);
  const which = { base: indexed(move.base), top: move.top === 0 ? '' : indexed(move.top) };
  return async (service, accept) =>
    await service.commit(CommitRequest.fromPartial({ disk, ...which, flags, bandwidth, accept: [...accept] }));
}

function indexed(at: number): string {
  return `${DISK}[${at}]`;
}

function copyStart({ domain }: Asked, move: CopyMove, copy: string): Start {
  const onReady = {
    'pivots itself': OnReady.ON_READY_PIVOT,
    'finishes itself': OnReady.ON_READY_FINISH,
    pivot: OnReady.ON_READY_HOLD,
    finish: OnReady.ON_READY_HOLD,
    force: OnReady.ON_READY_HOLD,
    early: OnReady.ON_READY_HOLD,
  }[move.ending];
  const request = {
    disk: { domain, disk: DISK },
    destination: { target: { $case: 'file', value: copy }, format: FORMATS[move.format] } as const,
    shallow: move.isShallow,
    reuseExternal: move.destination !== 'new',
    relativeBacking: move.isRelative,
    granularityBytes: BigInt(move.granularityBytes),
    bandwidthBytesPerSecond: move.isSlow || move.ending === 'early' ? SLOW : 0n,
    writeMode: move.isBlocking ? WriteMode.WRITE_MODE_BLOCKING : WriteMode.WRITE_MODE_BACKGROUND,
    onReady,
  };
  return async (service, accept) =>
    await service.startCopy(StartCopyRequest.fromPartial({ ...request, accept: [...accept] }));
}

/** Empty; or, for a shallow copy, with the contents below the active image. */
async function makeReused(path: string, move: CopyMove, { chain, shows, scratch, under }: Asked): Promise<void> {
  const format = move.format === 'raw' ? 'raw' : 'qcow2';
  const [, below] = chain;
  const size = String(shows.sizeBytes);
  const create = ['create', '-q', '-f', format];
  if (!move.isShallow || below === undefined) {
    await run('qemu-img', [...create, path, size]);
    return;
  }
  if (move.destination === 'reused') {
    const name = below.path.startsWith('/dev/') ? below.path : relativeName(path, below.path);
    await run('qemu-img', [...create, '-u', '-F', below.format, '-b', name, path, size]);
    return;
  }
  const flat = join(scratch, 'flat');
  const bytes = Buffer.alloc(shows.sizeBytes);
  const shown = await read([`json:${JSON.stringify(below.open)}`], { scratch, under, isLive: true });
  shown.copy(bytes);
  await writeFile(flat, bytes);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', format, flat, path]);
}
