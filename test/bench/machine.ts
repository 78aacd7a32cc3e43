/** The machine of a bench, in two lines. */
import { readFile } from 'node:fs/promises';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { present } from '../support/checks.ts';
import { run } from '../support/real-qemu/qemu.ts';

async function versionOf(program: string): Promise<string> {
  const { stdout } = await run(program, ['--version']);
  return present(/\d+(?:\.\d+)+/.exec(stdout)?.[0], `the version of ${program}`);
}

export async function machine(): Promise<string> {
  const processors = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  const { stdout: storage } = await run('findmnt', ['-n', '-o', 'FSTYPE,SOURCE', '-T', tmpdir()]);
  const [fileSystem, device] = storage.trim().split(/\s+/);
  const debian = (await readFile('/etc/debian_version', 'utf8')).trim();
  const [kernel] = release().split('-');
  const [qemu, libvirt] = [await versionOf('qemu-system-x86_64'), await versionOf('libvirtd')];
  return `The machine: ${processors.length} cores (${processors[0]?.model}), ${memory} GiB of memory, ${fileSystem} on ${device}.
The software: Debian ${debian}, Linux ${kernel}, QEMU ${qemu}, libvirt ${libvirt}, Node ${process.versions.node}.
`;
}
