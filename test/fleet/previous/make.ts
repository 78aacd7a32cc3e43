/**
 * Makes blockjobd.tar.gz out of the history of this repository: node test/fleet/previous/make.ts. README.md says why.
 * The same commit and the same packages give the same bytes.
 */
import { execFileSync } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { AS_COMMONJS, PROTOS } from '../../support/service/bundle.ts';

const REPOSITORY = join(import.meta.dirname, '../../..');
/** The last commit before the contract was 1.0. */
const COMMIT = '5189f6b8999f';
const ARCHIVE = join(import.meta.dirname, 'blockjobd.tar.gz');

const folder = await mkdtemp(join(tmpdir(), 'previous-'));
try {
  const history = ['archive', COMMIT, 'src', 'generated', 'package.json'];
  const sources = execFileSync('git', history, { cwd: REPOSITORY, maxBuffer: 1 << 26 });
  execFileSync('tar', ['-x', '-C', folder], { input: sources });
  await symlink(join(REPOSITORY, 'node_modules'), join(folder, 'node_modules'));
  await build({
    entryPoints: [join(folder, 'src/main.ts')],
    outfile: join(folder, 'bundle/src/main.mjs'),
    bundle: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    banner: { js: AS_COMMONJS },
    // Traces and the page are loaded only on request.
    external: ['*/tracing/open-telemetry.ts', '*/page/page.ts'],
  });
  for (const path of PROTOS)
    await cp(join(REPOSITORY, 'node_modules', path), join(folder, 'proto'), { recursive: true });
  // It comes before the release that its own package.json names (semver.org, 11).
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as { readonly version: string };
  const manifest = { version: `${version}-${COMMIT}`, build: COMMIT };
  await writeFile(join(folder, 'package.json'), `${JSON.stringify(manifest)}\n`);
  const same = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--mode=u=rwX,go=rX'];
  const content = ['package.json', 'generated/blockjob.binpb', 'bundle', 'proto/grpc', 'proto/health'];
  execFileSync('tar', ['-c', '-I', 'gzip -9n', '-f', ARCHIVE, '-C', folder, ...same, ...content]);
} finally {
  await rm(folder, { recursive: true, force: true });
}
