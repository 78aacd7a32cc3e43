/**
 * The published contract, generated and compiled in a language that no example is written in, by Debian's packages
 * alone. The messages that it sends have the intended meaning. Python, Go, JavaScript and Java are built, and run, by
 * test/examples.
 */
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { AbortRequest } from '../../../generated/blockjob/v1/block_job_service.ts';
import { needs } from '../../support/means.ts';
import { run } from '../../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../../support/service/service.ts';

/** The published files, and nothing else of this repository. */
const PROTO = join(REPOSITORY, 'dist/blockjobd/proto');
const CACHE = join(REPOSITORY, '.cache/languages');
const HERE = import.meta.dirname;
/** The crates are built once, which takes most of the time. */
const COMPILING = { timeoutMs: 600_000 };

const JOB = { name: { $case: 'jobId', value: 'bj1' } } as const;
/** The messages that the program prints for job "bj1", read here. */
const ABORT = AbortRequest.fromPartial({ job: JOB, pivot: true, returnImmediately: true });

function read(hexadecimal: string): AbortRequest {
  return AbortRequest.decode(Buffer.from(hexadecimal, 'hex'));
}

describe.skipIf(needs('rust'))('in Rust', () => {
  test('messages are generated, compiled, and used', { timeout: COMPILING.timeoutMs }, async () => {
    const folder = join(CACHE, 'rust');
    await cp(join(HERE, 'rust'), folder, { recursive: true });
    const script = 'cd "$1" && PROTO="$2" exec cargo run --quiet --offline -- bj1';
    expect(read((await run('sh', ['-c', script, 'sh', folder, PROTO], COMPILING)).stdout)).toEqual(ABORT);
  });
});
