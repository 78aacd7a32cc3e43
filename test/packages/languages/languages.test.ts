/**
 * The published contract, generated and compiled in languages that no example is written in, by Debian's packages
 * alone. The messages that they send have the intended meaning. Python, Go and JavaScript are built, and run, by
 * test/examples.
 */
import { cp, mkdir, readdir, rm } from 'node:fs/promises';
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
/** The messages that the programs print for job "bj1", read here. */
const ABORT = AbortRequest.fromPartial({ job: JOB, pivot: true, returnImmediately: true });

function read(hexadecimal: string): AbortRequest {
  return AbortRequest.decode(Buffer.from(hexadecimal, 'hex'));
}

/** The files of the contract's folder, as protoc names them. */
async function filesIn(...folders: readonly string[]): Promise<string[]> {
  const found = folders.map(async (folder) =>
    (await readdir(join(PROTO, folder))).map((name) => join(PROTO, folder, name)),
  );
  return (await Promise.all(found)).flat();
}

describe.skipIf(needs('java-grpc'))('in Java', () => {
  test('messages and stubs are generated, compiled, and used', { timeout: COMPILING.timeoutMs }, async () => {
    const folder = join(CACHE, 'java');
    await rm(folder, { recursive: true, force: true });
    for (const name of ['source', 'classes']) await mkdir(join(folder, name), { recursive: true });
    const { stdout: plugin } = await run('sh', ['-c', 'command -v grpc_java_plugin']);
    const source = join(folder, 'source');
    await run('protoc', [
      '-I',
      PROTO,
      `--plugin=protoc-gen-grpc-java=${plugin.trim()}`,
      `--java_out=${source}`,
      `--grpc-java_out=${source}`,
      ...(await filesIn('blockjob/v1', 'google/api', 'google/rpc')),
    ]);
    const jars = ['protobuf', 'grpc-api', 'grpc-stub', 'grpc-protobuf', 'guava', 'geronimo-annotation-1.3-spec'];
    const path = [...jars.map((name) => `/usr/share/java/${name}.jar`), join(folder, 'classes')].join(':');
    const all = await readdir(source, { recursive: true });
    const sources = all.filter((name) => name.endsWith('.java')).map((name) => join(source, name));
    const into = ['-nowarn', '-d', join(folder, 'classes'), '-cp', path];
    await run('javac', [...into, ...sources, join(HERE, 'java/Use.java')], COMPILING);
    expect(read((await run('java', ['-cp', path, 'Use', 'bj1'])).stdout)).toEqual(ABORT);
  });
});

describe.skipIf(needs('rust'))('in Rust', () => {
  test('messages are generated, compiled, and used', { timeout: COMPILING.timeoutMs }, async () => {
    const folder = join(CACHE, 'rust');
    await cp(join(HERE, 'rust'), folder, { recursive: true });
    const script = 'cd "$1" && PROTO="$2" exec cargo run --quiet --offline -- bj1';
    expect(read((await run('sh', ['-c', script, 'sh', folder, PROTO], COMPILING)).stdout)).toEqual(ABORT);
  });
});
