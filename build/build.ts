/**
 * Compiles to JavaScript that plain Node runs, in folders as npm publishes them: the program (dist/blockjobd) and the
 * client (dist/blockjobd-client). Paths between files are those of the repository.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { bundle } from './bundle.ts';
import { manPages } from './man.ts';
import { CLIENT, MANIFEST, PROGRAM, ROOT, readJson, revision, run } from './places.ts';

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

/** The commands, and where they begin. */
const COMMANDS = { blockjobd: 'src/main.js', blockjob: 'bin/blockjob' };
const COMPILED = join(ROOT, 'dist/compiled');
const OF_COMMAND = ['src/cli', 'src/client', 'src/blockjob.js'];

function copy(from: string, to: string, only: (path: string) => boolean = () => true): void {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true, filter: only });
}

function isNoType(path: string): boolean {
  return !path.endsWith('.d.ts');
}

function writeJson(path: string, content: unknown): void {
  writeFileSync(path, `${JSON.stringify(content, undefined, 2)}\n`);
}

/** The files of both packages. */
function common(folder: string, manifest: object): void {
  const { version, license, type, engines } = MANIFEST;
  writeJson(join(folder, 'package.json'), { ...manifest, version, license, type, engines });
  copy(join(ROOT, 'LICENSE'), join(folder, 'LICENSE'));
  copy(join(ROOT, 'proto/blockjob'), join(folder, 'proto/blockjob'));
  // The imports of the contract, and the messages of error details: not every language has them, and clients should
  // need no other files.
  for (const name of ['api/field_behavior', 'rpc/code', 'rpc/error_details', 'rpc/status']) {
    const path = `google/${name}.proto`;
    copy(join(ROOT, 'node_modules/google-proto-files', path), join(folder, 'proto', path));
  }
}

async function program(): Promise<void> {
  rmSync(PROGRAM, { recursive: true, force: true });
  // The sources of the command are left out: it is one file.
  copy(COMPILED, PROGRAM, (path) => isNoType(path) && !OF_COMMAND.includes(relative(COMPILED, path)));
  // The generated JavaScript, and the files that the program reads when it runs.
  for (const name of ['blockjob.binpb', 'es', 'page']) {
    copy(join(ROOT, 'generated', name), join(PROGRAM, 'generated', name), isNoType);
  }
  for (const name of ['README.md', 'docs', 'deploy/kubernetes', 'deploy/systemd'])
    copy(join(ROOT, name), join(PROGRAM, name));
  const { name, description, dependencies } = MANIFEST;
  const man = manPages(join(PROGRAM, 'man'));
  common(PROGRAM, { name, description, build: revision(), bin: COMMANDS, man, dependencies });
  // The version that it tells is that of the package.
  copy(join(PROGRAM, 'package.json'), join(COMPILED, 'package.json'));
  await bundle(join(COMPILED, 'src/blockjob.js'), join(PROGRAM, COMMANDS.blockjob));
  // With this file npm installs the tested versions: it is the lock file without the packages for development.
  const lock = readJson(join(ROOT, 'package-lock.json')) as Lock;
  const own = readJson(join(PROGRAM, 'package.json'));
  const packages = Object.entries(lock.packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  writeJson(join(PROGRAM, 'npm-shrinkwrap.json'), { ...lock, packages: { '': own, ...Object.fromEntries(packages) } });
}

/** The client, with its types and the generated files that it needs. */
function client(): void {
  rmSync(CLIENT, { recursive: true, force: true });
  copy(join(COMPILED, 'src/client'), join(CLIENT, 'src/client'));
  for (const name of ['blockjob', 'google']) copy(join(COMPILED, 'generated', name), join(CLIENT, 'generated', name));
  const [, node = ''] = /^## Node\n\n([^]*?)\n## /m.exec(readFileSync(join(ROOT, 'docs/clients.md'), 'utf8')) ?? [];
  writeFileSync(join(CLIENT, 'README.md'), `# blockjobd-client\n\n${node}`);
  const needed = ['@bufbuild/protobuf', '@grpc/grpc-js'];
  const dependencies = Object.fromEntries(needed.map((name) => [name, `^${MANIFEST.dependencies[name]}`]));
  const types = './src/client/index.d.ts';
  common(CLIENT, {
    name: 'blockjobd-client',
    description: 'A client of blockjobd: watches that go on, writes that are done once, errors as types.',
    exports: { '.': { types, default: './src/client/index.js' }, './proto/*': './proto/*' },
    types,
    dependencies,
  });
}

rmSync(COMPILED, { recursive: true, force: true });
run(ROOT, join(ROOT, 'node_modules/.bin/tsc'), '-p', 'tsconfig.build.json');
await program();
client();
rmSync(COMPILED, { recursive: true });
for (const folder of readdirSync(join(ROOT, 'dist'))) process.stdout.write(`dist/${folder}\n`);
