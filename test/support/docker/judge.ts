/**
 * The rules that a fleet must keep whatever has happened to it: by its journals, and by an observer that has watched
 * etcd all the time.
 */
import type { Host, Journaled } from './host.ts';
import type { Seen } from './observer.ts';
import type { ContainerSite } from './site.ts';

/** The observer may see the entries of a host this much later. */
const OBSERVED_WITHIN_MS = 1000;

/** All errors, in sentences. `started`: jobs that callers know, which all have ended. */
export async function wrongs(site: ContainerSite, started: readonly string[]): Promise<readonly string[]> {
  const journals = (await Promise.all(site.hosts.map(async (host) => await host.journals()))).flat();
  const seen = await site.observer.seen();
  if (seen.length === 0) return ['the observer has seen nothing'];
  const untrue = (await Promise.all(site.hosts.map(async (host) => await untrueOf(host, journals)))).flat();
  return [...lost(journals, started), ...unended(journals), ...trespasses(journals, seen), ...untrue];
}

/** The guest of each VM writes now to the image at which its last job left it. */
async function untrueOf(host: Host, journals: readonly Journaled[]): Promise<readonly string[]> {
  const last = new Map<string, { job: string; time: string; writesTo: string | undefined }>();
  for (const { job, entries } of journals.filter((one) => one.host === host.name)) {
    const [first] = entries;
    const end = entries.at(-1);
    if (first?.entry !== 'accepted' || end?.entry !== 'ended') continue;
    const { time, outcome } = end;
    const before = last.get(first.domain);
    if (before === undefined || before.time < time)
      last.set(first.domain, { job, time, writesTo: outcome.guestWritesTo });
  }
  const found = [...last].map(async ([vm, { job, writesTo }]) => {
    const image = await host.imageOf(vm);
    return image === writesTo ? [] : [`job ${job} has ended with ${vm} on ${writesTo}, which is on ${image}`];
  });
  return (await Promise.all(found)).flat();
}

function lost(journals: readonly Journaled[], started: readonly string[]): readonly string[] {
  return started.flatMap((id) => {
    const hosts = journals.flatMap(({ job, host }) => (job === id ? host : []));
    return hosts.length === 1 ? [] : `job ${id} is in the journals of ${hosts.join(', ') || 'nobody'}`;
  });
}

function unended(journals: readonly Journaled[]): readonly string[] {
  return journals.flatMap(({ job, entries }) => {
    const last = entries.at(-1)?.entry ?? 'nothing';
    const isOver = last === 'ended' || last === 'refused';
    const hasGap = entries.some(({ revision }, at) => revision !== at + 1);
    return [isOver ? [] : `the journal of job ${job} ends with "${last}"`, hasGap ? `job ${job} has a gap` : []].flat();
  });
}

/** Jobs that a host began on a domain that another host owned at that time. */
function trespasses(journals: readonly Journaled[], seen: readonly Seen[]): readonly string[] {
  return journals.flatMap(({ host, job, entries }) => {
    const [first] = entries;
    if (first?.entry !== 'accepted') return `job ${job} begins with "${first?.entry}"`;
    const at = Date.parse(first.time);
    const owners = seen.filter(({ key }) => key === `domains/${first.domainUuid}`);
    const owner = owners.findLast((change) => change.at <= at)?.value?.['host'];
    const becameOwner = owners.some((change) => {
      return change.at > at && change.at < at + OBSERVED_WITHIN_MS && change.value?.['host'] === host;
    });
    return owner === host || becameOwner ? [] : `host ${host} began job ${job}, and the owner was ${owner ?? 'nobody'}`;
  });
}
