/** Encrypted images, for QEMUs that have the secret `s0`. */
import { run } from './qemu.ts';

const SECRET = ['secret,id=s0,data=hunter2'] as const;
export const WITH_SECRET: readonly string[] = ['-object', ...SECRET];

/** QEMU measures its own speed first, which it cannot on a machine that gives it no time: then it is asked again. */
const NOT_MEASURED = 'Unable to get accurate CPU usage';

export async function makeEncrypted(
  path: string,
  format: 'luks' | 'qcow2',
  sizeBytes: number,
  backing?: { readonly path: string; readonly format: string },
): Promise<void> {
  const prefix = format === 'luks' ? '' : 'encrypt.';
  const options = [
    ...(format === 'luks' ? [] : ['encrypt.format=luks']),
    `${prefix}key-secret=s0`,
    `${prefix}iter-time=10`,
    ...(backing === undefined ? [] : [`backing_file=${backing.path}`, `backing_fmt=${backing.format}`]),
  ];
  const args = ['create', '-q', '-f', format, '--object', ...SECRET, '-o', options.join(','), path, String(sizeBytes)];
  for (;;) {
    const { code, stderr } = await run('qemu-img', args, { accept: [0, 1] });
    if (code === 0) return;
    if (!stderr.includes(NOT_MEASURED)) throw new Error(stderr);
  }
}
