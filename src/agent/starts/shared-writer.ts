/** Other writers of a disk's active image: the guest does not see their writes once it has left the image. */
import { topDown } from '../../core/disk/chain.ts';
import { processHaving, soughtAt } from '../host/open-files.ts';
import { mayShareWrites } from '../qemu/device-type.ts';
import { domainThatWrites, nodeWith } from '../qemu/graphs.ts';
import { activeImage, type Site } from './site.ts';

/** As the continuation of a sentence that begins with the image; undefined if none is known. */
export async function sharedWriter(site: Site): Promise<string | undefined> {
  const { disk, graph, graphs, machine, writing } = site;
  const top = activeImage(site);
  if (disk.sharesWrites && (await mayShareWrites(machine, disk.qdev)))
    return 'may be written by others, as its device says (share-rw)';
  // The rest of a partly used file has users of its own.
  if (top.isPart) return undefined;
  const sought = await soughtAt(top.path);
  if (sought === undefined) return undefined;
  const own = new Set(topDown(graph, top.node));
  const others = new Map([...graph.nodes].filter(([node, { readOnly }]) => !readOnly && !own.has(node)));
  const node = await nodeWith(sought.identity, { nodes: others });
  if (node !== undefined) return by(`node ${node} of the same QEMU`);
  const domain = await domainThatWrites(
    sought,
    graphs.filter(({ socketPath }) => socketPath !== machine.socketPath),
  );
  if (domain !== undefined) return by(domain);
  const who = await (writing ?? processWriting(site));
  return who && by(who);
}

/** The process that may write to the active image beside QEMU. The look at all processes of the host takes longest. */
export async function processWriting({ disk, identity }: Pick<Site, 'disk' | 'identity'>): Promise<string | undefined> {
  const [top] = disk.chain;
  // QEMU itself must be known among the processes, or it would count as another writer.
  const pid = identity.isItself ? identity.facts?.process.pid : undefined;
  const sought = top === undefined || top.isPart || pid === undefined ? undefined : await soughtAt(top.path);
  // Many processes open a device.
  if (pid === undefined || sought?.identity.isFile !== true) return undefined;
  return await processHaving(sought, { besides: pid, toWrite: true });
}

function by(who: string): string {
  return `may be written by ${who}`;
}
