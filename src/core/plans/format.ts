/** The step that writes the qcow2 header of a destination. */
import type { Encryption } from '../destination.ts';
import { namesOf } from '../job/names.ts';
import type { Step } from '../job/step.ts';
import type { CopyDestination, CopySource } from './copy-ends.ts';

/**
 * How long QEMU derives the key each time it opens the image, while the guest waits. QEMU's default of 2,000 would make
 * the guest wait that long, too. This is some 700,000 rounds of PBKDF2 with SHA-256: enough for a passphrase.
 */
const KEY_DERIVATION_MS = 200;

/** The id of the key in QEMU. */
export function luksKey({ secretId }: Encryption) {
  return { format: 'luks', 'key-secret': secretId } as const;
}

export function format(
  job: string,
  source: Pick<CopySource, 'virtualSizeBytes' | 'clusterSizeBytes' | 'extendedL2'>,
  { backingName: backing, encryption }: Pick<CopyDestination, 'backingName' | 'encryption'>,
): Step {
  const names = namesOf(job);
  return {
    name: 'format-destination',
    run: {
      do: 'qmp-job',
      command: {
        execute: 'blockdev-create',
        arguments: {
          'job-id': names.create,
          options: {
            driver: 'qcow2',
            file: names.file,
            size: source.virtualSizeBytes,
            ...(source.clusterSizeBytes === undefined ? {} : { 'cluster-size': source.clusterSizeBytes }),
            ...(source.extendedL2 ? { 'extended-l2': true } : {}),
            ...(backing === undefined ? {} : { 'backing-file': backing.file, 'backing-fmt': backing.format }),
            ...(encryption && { encrypt: { ...luksKey(encryption), 'iter-time': KEY_DERIVATION_MS } }),
          },
        },
      },
      qemuJob: names.create,
    },
    undo: { do: 'end-qmp-job', qemuJob: names.create },
  };
}
