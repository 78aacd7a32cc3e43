/**
 * client.ts VM FILE - a user of the fleet, on a machine of its own: copies the disk of a VM into that file, watches
 * this through any gateway that answers, and pivots when the copy is ready. Prints each event as a line of JSON.
 */
import { BlockJobClient, fromMs, hasEnded, Job_State, JobEvent_Kind } from '../../../../src/client/index.ts';

const [, , domain = '', file = ''] = process.argv;
const say = (line: object) => process.stdout.write(`${JSON.stringify({ ...line, at: Date.now() })}\n`);

using client = new BlockJobClient({
  address: ['g1:50051', 'g2:50051'],
  tls: { ca: '/tls/ca.pem', cert: '/tls/cert.pem', key: '/tls/key.pem' },
});
const { job: started } = await client.startCopy({
  disk: { domain, disk: 'virtio0' },
  destination: { target: { $case: 'file', value: file } },
  bandwidthBytesPerSecond: 8n << 20n,
});
if (started === undefined) throw new Error('the answer has no job');
const job = { name: { $case: 'jobId', value: started.id } } as const;
for await (const event of client.watchJob({ job, afterRevision: 0n, progressInterval: fromMs(100) })) {
  const { kind, revision } = event;
  const state = event.job?.state ?? Job_State.STATE_UNSPECIFIED;
  say({ through: client.address, job: started.id, kind, revision: Number(revision), state });
  if (kind === JobEvent_Kind.KIND_STATE && state === Job_State.STATE_READY) await client.abort({ job, pivot: true });
  if (hasEnded(state)) say({ writesTo: event.job?.outcome?.guestWritesTo });
}
