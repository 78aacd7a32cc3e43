/** Ways to run the service so that it sees less of QEMU's process, or nothing. They need root. */
import { spawnSync } from 'node:child_process';
import { chmod, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { REPOSITORY } from '../service/service.ts';
import type { Machine, Site } from './bench-qemu.ts';
import { run } from './qemu.ts';

export interface Sight {
  readonly name: string;
  /** The command that starts the service. */
  readonly under: readonly string[];
  /** The user that it runs as then; undefined for the user of QEMU. */
  readonly uid: number | undefined;
}

const NOBODY = 65534;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
/** A clone may be in a home that only its owner enters; with a new mount, others see only the clone in that home. */
const ENTERED = `cd / && if ! ${AS_NOBODY.join(' ')} test -r ${REPOSITORY}/package.json; then
  home=$(echo ${REPOSITORY} | cut -d/ -f1,2) clone=$(mktemp -d)
  mount --bind ${REPOSITORY} "$clone" && mount -t tmpfs -o mode=755 tmpfs "$home"
  mkdir -p ${REPOSITORY} && mount --bind "$clone" ${REPOSITORY} && umount "$clone" && rmdir "$clone"
fi && cd ${REPOSITORY}`;

export const PID_NAMESPACE: Sight = {
  name: 'a pid namespace of its own',
  under: ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child', '--'],
  uid: undefined,
};
export const HIDEPID: Sight = {
  name: 'hidepid, as another user',
  // A mount of its own: a changed option of the host's mount would apply to all.
  under: inMounts(`${ENTERED} && mount -t proc -o hidepid=2 proc /proc`),
  uid: NOBODY,
};
export const OTHER_UID: Sight = { name: 'another user', under: inMounts(ENTERED), uid: NOBODY };

function inMounts(script: string): readonly string[] {
  return ['unshare', '--mount', 'sh', '-c', `${script} && exec "$@"`, 'sh', ...AS_NOBODY];
}

/** Makes the service run like this from its next start on. */
export async function seeAs({ under, uid }: Sight, site: Site, machine: Machine): Promise<void> {
  site.under = under;
  if (uid === undefined) return;
  // A socket that another user left there may still be in use, as far as this service can see.
  await rm(join(site.stateFolder, '..', 'api.sock'), { force: true });
  await run('chown', ['-R', `${uid}`, site.stateFolder]);
  for (const folder of [join(site.stateFolder, '..'), site.sockets, machine.dir]) await chmod(folder, 0o777);
  for (const socket of await readdir(site.sockets)) await chmod(join(site.sockets, socket), 0o666);
}

/** Prints a loud warning otherwise. */
export function canSeeLess(): boolean {
  const can = [PID_NAMESPACE, HIDEPID, OTHER_UID].every(({ under: [command = '', ...args] }) => {
    return spawnSync(command, [...args, 'true']).status === 0;
  });
  if (!can) console.warn('NOT TESTED, AS IT TAKES ROOT AND NAMESPACES: a service that does not see QEMU’s process');
  return can;
}
