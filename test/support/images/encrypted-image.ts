/** Encrypted images, for QEMUs that have the secret `s0`. */

import { run } from '../real-qemu/qemu.ts';
import { refusalOf } from '../service/caller.ts';

/** The key, which must not be found anywhere. */
export const KEY = 'hunter2';
const SECRET = [`secret,id=s0,data=${KEY}`] as const;
export const WITH_SECRET: readonly string[] = ['-object', ...SECRET];
/** Also one that cannot be used, and an object that is not a secret. */
export const WITH_OTHERS: readonly string[] = [
  ...WITH_SECRET,
  '-object',
  'secret,id=other,data=no-key-of-it',
  '-object',
  'iothread,id=io0',
];
/** For programs that start with only the key. */
export const COLD: readonly string[] = ['--object', ...SECRET, '--image-opts'];

/** QEMU measures its own speed first, which fails on a very busy machine: then the test tries again. */
const NOT_MEASURED = 'Unable to get accurate CPU usage';

/** A start that formats with LUKS, for which QEMU measures its speed, too. */
export async function startEncrypted<T>(start: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await start();
    } catch (error) {
      if (!refusalOf(error).message.includes(NOT_MEASURED)) throw error;
    }
  }
}

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
