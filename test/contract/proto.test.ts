/** The contract's own checks, each also run on a copy with an error, which it must find. */
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { BUF } from '../support/buf.ts';
import { type Finished, run, testDir } from '../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../support/service/service.ts';

/** buf's exit status if it has findings. */
const FINDINGS = 100;

async function buf(folder: string, ...args: string[]): Promise<Finished> {
  return await run('sh', ['-c', 'cd "$1" && shift && exec "$@"', 'sh', folder, BUF, ...args], {
    accept: [0, FINDINGS],
  });
}

/** A copy of all files that buf reads, with changes. */
async function copied(changes: Readonly<Record<string, (text: string) => string>> = {}) {
  const dir = await testDir('bj-proto-');
  await cp(join(REPOSITORY, 'proto'), join(dir.path, 'proto'), { recursive: true });
  for (const name of ['buf.yaml', 'buf.gen.yaml']) await cp(join(REPOSITORY, name), join(dir.path, name));
  // buf does not follow links out of a module, so imported files are copied.
  for (const name of [
    'google-proto-files/google/api',
    'google-proto-files/google/rpc',
    'google-proto-files/google/protobuf',
    'grpc-health-check/proto',
  ])
    await cp(join(REPOSITORY, 'node_modules', name), join(dir.path, 'node_modules', name), {
      recursive: true,
    });
  await mkdir(join(dir.path, 'node_modules'), { recursive: true });
  await symlink(join(REPOSITORY, 'node_modules/.bin'), join(dir.path, 'node_modules/.bin'));
  for (const [name, change] of Object.entries(changes)) {
    const path = join(dir.path, 'proto/blockjob/v1', name);
    const before = await readFile(path, 'utf8');
    const after = change(before);
    if (after === before) throw new Error(`the change of ${name} changes nothing`);
    await writeFile(path, after);
  }
  return dir;
}

async function breaking(folder: string): Promise<Finished> {
  const image = ['build', '--path', 'proto/blockjob', '-o', 'new.binpb', '--exclude-source-info'];
  expect(await buf(folder, ...image)).toMatchObject({ code: 0 });
  return await buf(folder, 'breaking', 'new.binpb', '--against', 'proto/released.binpb', '--exclude-imports');
}

describe('the contract', () => {
  test('keeps the rules of buf lint, and its format', async () => {
    expect(await buf(REPOSITORY, 'lint')).toMatchObject({ code: 0, stdout: '' });
    expect(await buf(REPOSITORY, 'format', '-d', '--exit-code', 'proto')).toMatchObject({ code: 0, stdout: '' });
  });

  test('has no exceptions from lint', async () => {
    const files = ['block_job_service', 'domain_service', 'error_reason', 'job', 'server_service'];
    for (const name of files)
      expect(await readFile(join(REPOSITORY, `proto/blockjob/v1/${name}.proto`), 'utf8')).not.toContain('buf:lint');
  });

  test('lint and format find errors', async () => {
    await using badName = await copied({
      'job.proto': (text) => text.replace('string source_path = ', 'string sourcePath = '),
    });
    expect(await buf(badName.path, 'lint')).toMatchObject({
      code: FINDINGS,
      stdout: expect.stringContaining('source_path'),
    });
    await using badFormat = await copied({
      'job.proto': (text) => text.replace('\n  string id = 1 ', '\n    string id = 1 '),
    });
    expect(await buf(badFormat.path, 'format', '-d', '--exit-code', 'proto')).toMatchObject({ code: FINDINGS });
  });

  test('generated/ matches it', async () => {
    await using fresh = await testDir('bj-proto-');
    await buf(REPOSITORY, 'generate', '-o', fresh.path);
    const without = ['proto/etcd', 'node_modules/google-proto-files/google/api'].flatMap((path) => [
      '--exclude-path',
      path,
    ]);
    const contract = [...without, '-o', join(fresh.path, 'generated/blockjob.binpb')];
    await buf(REPOSITORY, 'build', ...contract, '--exclude-source-info');
    // The page is bundled, and not generated from the contract; make check-generated checks it.
    const folders = [join(REPOSITORY, 'generated'), join(fresh.path, 'generated')];
    const { stdout } = await run('diff', ['-r', '-x', 'page', ...folders], { accept: [0, 1] });
    expect(stdout).toBe('');
  });

  test('breaks no client of the released one', async () => {
    await using same = await copied();
    expect(await breaking(same.path)).toMatchObject({ code: 0, stdout: '' });
  });

  test.each([
    [
      'a field is deleted',
      'job.proto',
      (text: string) => text.replace(/\n {2}string source_path = \d+ .*;/, ''),
      'source_path',
    ],
    [
      'a field changes its type',
      'job.proto',
      (text: string) => text.replace('int64 revision = 15 ', 'int32 revision = 15 '),
      'int32',
    ],
    [
      'a field changes its number',
      'job.proto',
      (text: string) => text.replace('string source_path = 11 ', 'string source_path = 99 '),
      'source_path',
    ],
    [
      'a value of an enum is renamed',
      'job.proto',
      (text: string) => text.replace('  STATE_READY = 3;', '  STATE_PREPARED = 3;'),
      'STATE_READY',
    ],
    [
      'an rpc is deleted',
      'block_job_service.proto',
      (text: string) => text.replace(/\n {2}rpc Reclaim\(.*\);/, ''),
      'Reclaim',
    ],
  ])('breaking finds that %s', async (_what, file, change, word) => {
    await using changed = await copied({ [file]: change });
    const found = await breaking(changed.path);
    expect(found).toMatchObject({ code: FINDINGS });
    expect(found.stdout).toContain(word);
  });
});
