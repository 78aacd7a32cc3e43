/**
 * The programs in few files, for the hundreds of processes that the tests start: half of what the start of one costs is
 * the loading of 700 files. Made once in a run, from the present sources; the command as in the packages.
 */
import { chmod, cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import { bundle } from '../../../build/bundle.ts';
import { CHAINS } from '../images/chain-templates.ts';

const REPOSITORY = join(import.meta.dirname, '../../..');
/** The folder of this run's bundles. */
const FOLDER = 'BLOCKJOBD_BUNDLES';

/** Packages that look for files beside their own need it. */
export const AS_COMMONJS = [
  `import { createRequire as requireOf } from 'node:module';`,
  'const require = requireOf(import.meta.url);',
  'const __dirname = import.meta.dirname;',
].join('\n');

/** Read by packages from the folder two above their own. */
export const PROTOS = ['grpc-health-check/proto', '@grpc/reflection/build/proto'];

/** Vitest's globalSetup: of several projects of a run the first one does it. */
export async function setup(): Promise<(() => Promise<void>) | undefined> {
  if (process.env[FOLDER] !== undefined) return undefined;
  await mkdir(join(REPOSITORY, '.cache'), { recursive: true });
  const folder = await mkdtemp(join(REPOSITORY, '.cache/bundles-'));
  // Services are started as other users, too.
  await chmod(folder, 0o755);
  for (const name of ['package.json', 'generated']) await symlink(join(REPOSITORY, name), join(folder, name));
  for (const path of PROTOS) {
    await cp(join(REPOSITORY, 'node_modules', path), join(folder, 'proto'), { recursive: true });
  }
  await build({
    entryPoints: [join(REPOSITORY, 'src/main.ts')],
    outdir: join(folder, 'bundle/src'),
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    banner: { js: AS_COMMONJS },
    external: ['@opentelemetry/sdk-node'],
  });
  await bundle(join(REPOSITORY, 'src/blockjob.ts'), join(folder, 'bundle/src/blockjob.mjs'));
  process.env[FOLDER] = join(folder, 'bundle/src');
  process.env[CHAINS] = join(folder, 'chains');
  await mkdir(process.env[CHAINS]);
  return async () => await rm(folder, { recursive: true, force: true });
}

/** The script for Node; without a bundle the source itself. */
export function scriptOf(name: 'main' | 'blockjob'): string {
  const folder = process.env[FOLDER];
  return folder === undefined ? join(REPOSITORY, 'src', `${name}.ts`) : join(folder, `${name}.mjs`);
}
