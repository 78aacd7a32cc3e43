/**
 * The Debian package: the program with its npm packages and its own Node in /usr/lib/blockjobd, its commands in
 * /usr/bin, the units of deploy/systemd, manual pages and documents. It starts no service: the site has to configure
 * its hosts and gateways first.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { commitTime, MANIFEST, PACKAGES, PROGRAM, ROOT, readJson, run } from './places.ts';
import { linuxNode } from './published.ts';

const STAGE = join(PACKAGES, '../debian');
const HOME = '/usr/lib/blockjobd';
const NODE = `${HOME}/bin/node`;
const DOCS = '/usr/share/doc/blockjobd';
const SCRIPTS = join(ROOT, 'deploy/debian');
const MAINTAINER = 'The blockjobd authors <blockjobd@localhost>';

interface Built {
  readonly version: string;
  readonly build: string;
  readonly bin: Readonly<Record<string, string>>;
}

function built(): Built {
  return readJson(join(PROGRAM, 'package.json')) as Built;
}

function staged(path: string): string {
  const full = join(STAGE, path);
  mkdirSync(dirname(full), { recursive: true });
  return full;
}

function compressed(path: string, text: string | Buffer): void {
  writeFileSync(staged(`${path}.gz`), gzipSync(text, { level: 9 }));
}

/** The program as npm installs it, with its dependencies and nothing else. */
function program(): void {
  const home = staged(HOME);
  for (const name of ['package.json', 'npm-shrinkwrap.json', 'bin', 'deploy/health.js', 'generated', 'src']) {
    cpSync(join(PROGRAM, name), join(home, name), { recursive: true });
  }
  run(home, 'npm', 'ci', '--silent', '--omit=dev', '--ignore-scripts', '--no-bin-links');
  rmSync(join(home, 'npm-shrinkwrap.json'));
  // The program runs without types, source maps, pages and the configuration of the packages' own tools.
  const rest = readdirSync(join(home, 'node_modules'), { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && /\.(?:[cm]?ts|map|html)$|^\./.test(entry.name),
  );
  for (const { parentPath, name } of rest) rmSync(join(parentPath, name));
  for (const [command, path] of Object.entries(built().bin)) {
    writeFileSync(staged(`/usr/bin/${command}`), `#!/bin/sh\nexec ${NODE} ${HOME}/${path} "$@"\n`);
  }
}

/** The pinned Node, without debugging symbols. */
function node(): void {
  cpSync(join(linuxNode(process.arch), 'bin/node'), staged(NODE));
  run(ROOT, 'strip', '--strip-unneeded', staged(NODE));
}

function units(): void {
  const folder = join(ROOT, 'deploy/systemd');
  for (const name of readdirSync(folder)) {
    const text = readFileSync(join(folder, name), 'utf8')
      .replaceAll('/usr/bin/node /opt/blockjobd/src/main.js', '/usr/bin/blockjobd')
      .replaceAll('file:///opt/blockjobd/docs', `man:blockjobd(1) file://${DOCS}/docs`);
    writeFileSync(staged(`/usr/lib/systemd/system/${name}`), text);
  }
}

function documents(): void {
  for (const page of readdirSync(join(PROGRAM, 'man'))) {
    compressed(`/usr/share/man/man1/${page}`, readFileSync(join(PROGRAM, 'man', page)));
  }
  cpSync(join(PROGRAM, 'docs'), staged(`${DOCS}/docs`), { recursive: true });
  cpSync(join(PROGRAM, 'proto'), staged('/usr/share/blockjobd/proto'), { recursive: true });
  compressed(`${DOCS}/LICENSE.node`, readFileSync(join(linuxNode(process.arch), 'LICENSE')));
  cpSync(join(SCRIPTS, 'copyright'), staged(`${DOCS}/copyright`));
  cpSync(join(SCRIPTS, 'lintian-overrides'), staged('/usr/share/lintian/overrides/blockjobd'));
  const date = commitTime().toUTCString().replace('GMT', '+0000');
  const entry = `blockjobd (${MANIFEST.version}) unstable; urgency=medium\n\n  * ${buildName()}\n\n -- ${MAINTAINER}  ${date}\n`;
  compressed(`${DOCS}/changelog`, entry);
}

/** The completion files of the command for shells. */
function completions(): void {
  for (const [shell, path] of [
    ['bash', '/usr/share/bash-completion/completions/blockjob'],
    ['fish', '/usr/share/fish/vendor_completions.d/blockjob.fish'],
    ['zsh', '/usr/share/zsh/vendor-completions/_blockjob'],
  ] as const) {
    writeFileSync(staged(path), run(staged(HOME), process.execPath, 'bin/blockjob', 'completion', shell));
  }
}

function buildName(): string {
  const { version, build } = built();
  return `Version ${version}, built from ${build}.`;
}

/** The bytes of all files, and the files themselves. */
function contents(): { readonly bytes: number; readonly files: readonly string[] } {
  const files = readdirSync(STAGE, { recursive: true, encoding: 'utf8' })
    .filter((path) => !path.startsWith('DEBIAN') && lstatSync(join(STAGE, path)).isFile())
    .toSorted();
  return { files, bytes: files.reduce((sum, path) => sum + statSync(join(STAGE, path)).size, 0) };
}

function control(): void {
  const { bytes, files } = contents();
  const architecture = run(ROOT, 'dpkg', '--print-architecture').trim();
  const fields = {
    Package: MANIFEST.name,
    Version: MANIFEST.version,
    Architecture: architecture,
    Maintainer: MAINTAINER,
    'Installed-Size': Math.ceil(bytes / 1024),
    // The libraries of the bundled Node.
    Depends: 'adduser, libc6 (>= 2.28), libgcc-s1, libstdc++6 (>= 6)',
    Suggests: 'qemu-system',
    Section: 'admin',
    Priority: 'optional',
    Description: `moves the disks of running QEMU virtual machines
 A gRPC service that copies, pulls and commits the disks of running VMs over QMP,
 and says at every moment which image the guest writes to, whether the copy is
 complete, and what is safe to delete. It needs no libvirt.
 .
 The package has its own Node.js.`,
  };
  const text = Object.entries(fields).map(([name, value]) => `${name}: ${value}\n`);
  writeFileSync(staged('/DEBIAN/control'), text.join(''));
  chmodSync(staged('/DEBIAN'), 0o755);
  const sums = execFileSync('md5sum', [...files], { cwd: STAGE, encoding: 'utf8', maxBuffer: 1 << 26 });
  writeFileSync(staged('/DEBIAN/md5sums'), sums);
  for (const script of ['postinst', 'prerm', 'postrm']) {
    cpSync(join(SCRIPTS, script), staged(`/DEBIAN/${script}`));
    chmodSync(staged(`/DEBIAN/${script}`), 0o755);
  }
}

/** Sets the permissions of all files, independent of the umask. Files in the folders for programs are executable. */
function modes(): void {
  chmodSync(STAGE, 0o755);
  for (const entry of readdirSync(STAGE, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const isProgram = entry.parentPath === join(STAGE, '/usr/bin') || path === join(STAGE, NODE);
    chmodSync(path, entry.isDirectory() || isProgram ? 0o755 : 0o644);
  }
}

export function debianPackage(): void {
  rmSync(STAGE, { recursive: true, force: true });
  program();
  node();
  units();
  documents();
  completions();
  modes();
  control();
  const env = { ...process.env, SOURCE_DATE_EPOCH: String(Math.floor(commitTime().getTime() / 1000)) };
  const args = ['--root-owner-group', '-Zxz', '-z1', '--build', STAGE, PACKAGES];
  execFileSync('dpkg-deb', args, { env, stdio: ['ignore', 'ignore', 'inherit'] });
  rmSync(STAGE, { recursive: true });
}
