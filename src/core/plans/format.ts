/** The step that gives a destination its qcow2 header. */
import type { Encryption } from '../destination.ts';
import { namesOf } from '../job/names.ts';
import type { Step } from '../job/step.ts';
import type { CopyDestination, CopySource } from './copy-ends.ts';

/**
 * For so many milliseconds QEMU derives the key each time when it opens the image, with the guest waiting. QEMU's own 2,000
 * would be that long for the guest, too. This is some 700,000 rounds of PBKDF2 with SHA-256: enough for a passphrase.
 */
const KEY_DERIVATION_MS = 200;

/** For QEMU, which has it by this id. */
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
