/**
 * A process of many agents without QEMUs, which are in the directory like real ones. It prints a line when all are
 * there, and runs until it is ended. `node crowd.ts HOW URL FROM TO DOMAINS` makes the hosts FROM to TO:
 *
 * - `join`: by the code of an agent, each with a connection to etcd, a kept lease and claimed domains;
 * - `write`: by the same layout in the same transactions, over one connection. The leases last an hour, and are not
 *   renewed: a gateway does not see renewals. For more hosts than this machine has time for otherwise.
 */
import { randomUUID } from 'node:crypto';
import pLimit from 'p-limit';
import { pino } from 'pino';
import { domainKey, domainValue, hostKey, hostValue, ownedKey, ownedValue } from '../../src/fleet/directory/layout.ts';
import { Etcd } from '../../src/fleet/etcd/client.ts';
import { absent, modifiedAt, put } from '../../src/fleet/etcd/transactions.ts';
import { EtcdMembership } from '../../src/fleet/membership/etcd-membership.ts';

/** The number of hosts at a time. */
const AT_A_TIME = 64;
const TTL_SECONDS = 60;
const LONG_TTL_SECONDS = 3600;
/** Like src/fleet/membership/claims. */
const BATCH = 40;

const [how = '', url = '', from = '', to = '', domains = ''] = process.argv.slice(2);
const log = pino({ level: 'error' }, pino.destination(2));

function crowdHost(index: number) {
  const name = `host-${String(index).padStart(5, '0')}`;
  return { name, address: `127.0.0.1:${20_000 + index}`, identity: '', version: '0', instance: randomUUID() };
}

function domainsOf(host: string) {
  return Array.from({ length: Number(domains) }, (_, at) => ({ id: randomUUID(), name: `${host}-vm${at}` }));
}

async function join(index: number): Promise<void> {
  const host = crowdHost(index);
  const membership = new EtcdMembership({ etcd: new Etcd({ endpoints: [url] }), host, ttlSeconds: TTL_SECONDS, log });
  await membership.join();
  const here = domainsOf(host.name);
  membership.advertise(here, { complete: true });
  for (;;) {
    const looked = membership.changes.now;
    if (here.every(({ id }) => membership.owns(id))) return;
    await membership.changes.after(looked);
  }
}

async function write(etcd: Etcd, index: number): Promise<void> {
  const host = crowdHost(index);
  const { name, instance } = host;
  const timeoutMs = 60_000;
  const lease = await etcd.grantLease(LONG_TTL_SECONDS, { timeoutMs });
  const entered = { when: [absent(hostKey(name))], ifSo: [put(hostKey(name), hostValue(host), lease.id)] };
  const { revision: epoch } = await etcd.txn(entered, { timeoutMs });
  const here = domainsOf(name);
  let listed = 0n;
  for (let at = 0; at < here.length; at += BATCH) {
    const batch = here.slice(at, at + BATCH);
    const ids = here.slice(0, at + BATCH).map(({ id }) => id);
    const when = [modifiedAt(hostKey(name), epoch), modifiedAt(ownedKey(name), listed)];
    const claims = batch.map(({ id, name: vm }) => put(domainKey(id), domainValue({ name: vm, host: name, instance })));
    const all = {
      when: [...when, ...batch.map(({ id }) => absent(domainKey(id)))],
      ifSo: [...claims, put(ownedKey(name), ownedValue(ids))],
    };
    const { held, revision } = await etcd.txn(all, { timeoutMs });
    if (!held) throw new Error(`${name} is there already`);
    listed = revision;
  }
}

const atOnce = pLimit(AT_A_TIME);
const one = how === 'join' ? join : write.bind(undefined, new Etcd({ endpoints: [url] }));
const hosts = Array.from({ length: Number(to) - Number(from) }, (_, at) => Number(from) + at);
await Promise.all(hosts.map(async (index) => await atOnce(one, index)));
process.stdout.write('all are there\n');
setInterval(() => undefined, 60_000);
