/** The needs of a suite beyond Node, and what happens if one is missing. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Debian's python3, which has Debian's modules, rather than another one that may come first in PATH. */
export const PYTHON = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';

export type Means =
  | 'qemu'
  | 'guest'
  | 'python-grpc'
  | 'loop'
  | 'cgroup'
  | 'fuse'
  | 'power-cut'
  | 'by-hand'
  | 'etcd'
  | 'libvirt'
  | 'systemd'
  | 'prometheus'
  | 'shells'
  | 'browser'
  | 'go-grpc'
  | 'java-grpc'
  | 'rust'
  | 'packages'
  | 'fresh-root'
  | 'docker';

/** The base of the images of the tests. */
export const BASE_IMAGE = 'debian:bookworm-slim';

type Probe = readonly [program: string, args: readonly string[]];

const PROBES: Record<Means, readonly Probe[]> = {
  qemu: [
    ['qemu-system-x86_64', ['--version']],
    ['qemu-img', ['--version']],
    ['qemu-io', ['--version']],
    ['qemu-nbd', ['--version']],
  ],
  guest: [
    [PYTHON, ['--version']],
    [join(import.meta.dirname, '..', 'guest-rig', 'make-guest.sh'), []],
  ],
  'python-grpc': [
    [PYTHON, ['-c', 'import grpc, google.protobuf']],
    ['protoc', ['--version']],
    ['sh', ['-c', 'command -v grpc_python_plugin']],
  ],
  'go-grpc': [
    ['go', ['version']],
    ['protoc-gen-go', ['--version']],
    ['protoc-gen-go-grpc', ['--version']],
    [
      'sh',
      ['-c', 'ls -d /usr/share/gocode/src/google.golang.org/grpc /usr/share/gocode/src/google.golang.org/protobuf'],
    ],
  ],
  'java-grpc': [
    ['javac', ['-version']],
    ['java', ['-version']],
    ['protoc', ['--version']],
    [
      'sh',
      [
        '-ec',
        'command -v grpc_java_plugin; cd /usr/share/java; ls grpc-netty.jar netty-codec-http2.jar perfmark-api.jar',
      ],
    ],
  ],
  // The crates of Debian's packages, from which all is built without a network.
  rust: [
    ['cargo', ['--version']],
    ['protoc', ['--version']],
    ['sh', ['-c', 'ls -d /usr/share/cargo/registry/prost-build-* /usr/share/cargo/registry/prost-types-*']],
  ],
  packages: [
    ['dpkg-deb', ['--version']],
    ['strip', ['--version']],
    // The Debian package is installed on a view of this machine.
    ['unshare', ['--mount', 'true']],
    ['lintian', ['--version']],
    ['man', ['--version']],
    ['groff', ['--version']],
  ],
  // As root: another Debian in a folder, with mounts and processes of its own.
  'fresh-root': [
    ['debootstrap', ['--version']],
    ['unshare', ['--mount', '--pid', '--fork', 'true']],
  ],
  // The programs with which a person asks QEMU and the service.
  'by-hand': [
    ['socat', ['-V']],
    ['jq', ['--version']],
  ],
  etcd: [
    ['etcd', ['--version']],
    ['etcdctl', ['version']],
    ['openssl', ['version']],
  ],
  // As root it runs as nobody, with files of its own.
  libvirt: [
    ['libvirtd', ['--version']],
    ['virsh', ['--version']],
    [
      'sh',
      ['-c', 'test -n "$(find /usr/lib /usr/lib64 -path "*/connection-driver/libvirt_driver_qemu.so" 2>/dev/null)"'],
    ],
    ['setpriv', ['--version']],
  ],
  shells: [
    ['bash', ['--version']],
    ['zsh', ['--version']],
    ['fish', ['--version']],
    ['script', ['--version']],
  ],
  systemd: [['systemd-analyze', ['--version']]],
  browser: [
    ['chromium', ['--version']],
    ['curl', ['--version']],
  ],
  prometheus: [
    ['prometheus', ['--version']],
    ['promtool', ['--version']],
  ],
  // support/docker/ready.sh starts the first, and pulls or makes the second.
  docker: [
    ['docker', ['version']],
    ['docker', ['image', 'inspect', BASE_IMAGE]],
    ['openssl', ['version']],
  ],
  // A file system whose power can be cut: needs root, loop devices, and ext4.
  'power-cut': [
    [PYTHON, ['--version']],
    [
      'sh',
      [
        '-ec',
        'd=$(mktemp -d); trap "umount -l $d/m 2>/dev/null; rm -r $d" EXIT; mkdir $d/m; truncate -s 8M $d/f; mkfs.ext4 -q -F $d/f; mount -o loop $d/f $d/m',
      ],
    ],
  ],
  // A group of processes with a memory limit: needs root.
  cgroup: [
    [
      'sh',
      [
        '-ec',
        'cd /sys/fs/cgroup; if grep -qs memory cgroup.controllers; then echo +memory >cgroup.subtree_control; else cd memory; fi; mkdir blockjobd-probe-$$; rmdir blockjobd-probe-$$',
      ],
    ],
    ['openssl', ['version']],
  ],
  // A file system in user space, with one file: needs root, and a QEMU of 6.0 or later.
  fuse: [['sh', ['-ec', 'test -w /dev/fuse; qemu-storage-daemon --help | grep -qF "[type=]fuse"']]],
  // A block device of the test: needs root, and a kernel with loop devices.
  loop: [
    [
      'sh',
      [
        '-ec',
        'f=$(mktemp); trap "rm $f" EXIT; echo >"$f"; truncate -s 1M "$f"; losetup -d "$(losetup -f --show "$f")"',
      ],
    ],
  ],
};

/** Why a means is not available here, or undefined. The guest is built, if it has not been. */
function obstacle(means: Means): string | undefined {
  if (means === 'guest') {
    const reason = obstacle('qemu');
    if (reason !== undefined) {
      return reason;
    }
  }
  for (const [program, args] of PROBES[means]) {
    const { status, error, stderr } = spawnSync(program, args, { encoding: 'utf8', timeout: 600_000 });
    if (status !== 0) {
      return `${[program, ...args].join(' ')}: ${error?.message ?? `status ${status}: ${stderr.trim()}`}`;
    }
  }
  return undefined;
}

/**
 * For describe.skipIf(needs('qemu')): true, with a loud warning, if something is not available here. If CI is set it
 * throws instead, so that the suite fails; but no package gives a container the right to block devices, so it only
 * warns if these are missing.
 */
export function needs(...all: readonly Means[]): boolean {
  for (const means of all) {
    const reason = obstacle(means);
    if (reason !== undefined) {
      const text = `${means} is not available here (${reason}); test/support/setup.sh test may help`;
      if (process.env['CI'] && !['loop', 'fuse', 'power-cut'].includes(means)) {
        throw new Error(text);
      }
      console.warn(`NOT TESTED! THIS SUITE IS SKIPPED FOR WANT OF ${means.toUpperCase()}: ${text}`);
      return true;
    }
  }
  return false;
}
