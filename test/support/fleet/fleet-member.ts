/**
 * An agent's membership as a process of its own, which tests kill: fleet-member.ts ENDPOINT HOST INSTANCE TTL
 * [DOMAIN…]. Prints "member" when it is one. SIGTERM ends it in good order, because nothing is left to do.
 */
import { pino } from 'pino';
import { Etcd } from '../../../src/fleet/etcd/client.ts';
import { EtcdMembership } from '../../../src/fleet/membership/etcd-membership.ts';
import { until } from '../until.ts';

const [, , endpoint = '', name = '', instance = '', ttl = '', ...ids] = process.argv;
const etcd = new Etcd({ endpoints: [endpoint] });
const membership = new EtcdMembership({
  etcd,
  host: { name, address: '127.0.0.1:1', identity: '', version: '', instance },
  ttlSeconds: Number(ttl),
  marginMs: 500,
  log: pino({ level: 'silent' }),
});
membership.advertise(
  ids.map((id) => ({ id, name: `name of ${id}` })),
  { complete: true },
);
process.once('SIGTERM', () => {
  void membership[Symbol.asyncDispose]().then(() => etcd[Symbol.dispose]());
});
await membership.join();
await until('its domains', membership.changes, () => ids.every((id) => membership.owns(id)));
process.stdout.write('member\n');
