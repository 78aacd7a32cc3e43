/**
 * A process of many agents without QEMUs. They are in the directory like real ones, each with a connection to etcd, a
 * lease and claimed domains. `node crowd.ts URL AGENTS DOMAINS` prints a line when all are there, and runs until it is
 * ended.
 */
import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { Etcd } from '../../src/fleet/etcd/client.ts';
import { EtcdMembership } from '../../src/fleet/membership/etcd-membership.ts';

/** The number of calls at a time. */
const AT_A_TIME = 64;
const TTL_SECONDS = 60;

const [url = '', agents = '', domains = ''] = process.argv.slice(2);
const log = pino({ level: 'error' }, pino.destination(2));

async function join(index: number): Promise<void> {
  const name = `host-${String(index).padStart(4, '0')}`;
  const host = { name, address: `127.0.0.1:${20_000 + index}`, identity: '', version: '0', instance: randomUUID() };
  const membership = new EtcdMembership({ etcd: new Etcd({ endpoints: [url] }), host, ttlSeconds: TTL_SECONDS, log });
  await membership.join();
  const here = Array.from({ length: Number(domains) }, (_, at) => ({ id: randomUUID(), name: `${name}-vm${at}` }));
  membership.advertise(here, { complete: true });
  for (;;) {
    const looked = membership.changes.now;
    if (here.every(({ id }) => membership.owns(id))) return;
    await membership.changes.after(looked);
  }
}

const waiting = Array.from({ length: Number(agents) }, (_, index) => index).values();
const begun = performance.now();
await Promise.all(
  Array.from({ length: AT_A_TIME }, async () => {
    for (const index of waiting) await join(index);
  }),
);
process.stdout.write(`${Math.round(performance.now() - begun)}\n`);
