/**
 * The objects that tests have made in Docker: they carry the id of the test process, by which they are found and
 * removed.
 */
import { type ContainerRuntimeClient, StartedNetwork } from 'testcontainers';
import { docker } from './images.ts';

const LABEL = 'blockjobd-test';

export const LABELS = { [LABEL]: String(process.pid) };

/** `isInternal`: it has no connection to the outside. */
export async function makeNetwork(
  client: ContainerRuntimeClient,
  { isInternal }: { isInternal: boolean },
): Promise<StartedNetwork> {
  const Name = `${LABEL}-${crypto.randomUUID()}`;
  const made = await client.network.create({ Name, Driver: 'bridge', Internal: isInternal, Labels: LABELS });
  return new StartedNetwork(client, Name, made);
}

/** Returns its name. */
export async function makeVolume(): Promise<string> {
  return await docker('volume', 'create', '--label', `${LABEL}=${process.pid}`);
}

/** Removes all containers, networks and volumes of processes that are over. */
export async function removeAll(isOver: (pid: number) => boolean): Promise<void> {
  const list = async (kind: string, id: string, ...more: readonly string[]) => {
    const format = `{{.${id}}} {{.Label "${LABEL}"}}`;
    const lines = await docker(kind, 'ls', ...more, '--filter', `label=${LABEL}`, '--format', format);
    const all = lines.split('\n').map((line) => line.split(' '));
    return all.flatMap(([one = '', pid]) => (one !== '' && isOver(Number(pid)) ? one : []));
  };
  const containers = await list('container', 'ID', '--all');
  if (containers.length > 0) await docker('container', 'rm', '--force', '--volumes', ...containers);
  const networks = await list('network', 'ID');
  if (networks.length > 0) await docker('network', 'rm', ...networks);
  const volumes = await list('volume', 'Name');
  if (volumes.length > 0) await docker('volume', 'rm', ...volumes);
}
