/** A well-behaved client that only asks now and then, and notices the effect of others on the server. */
import { type ChannelCredentials, credentials, Metadata } from '@grpc/grpc-js';
import { DomainServiceClient } from '../../../generated/blockjob/v1/domain_service.ts';

/** The pause between two calls. */
const REST_MS = 10;
/** One call of this number uses a connection of its own. */
const FRESH = 20;
/** A call that takes longer counts as lost. */
const DEADLINE_MS = 20_000;

export interface Told {
  /** The time of each call, the shortest first. */
  readonly tookMs: readonly number[];
  /** The reasons of lost calls. */
  readonly lost: readonly string[];
}

/** Asks until it is over. */
export async function askUntil(
  over: Promise<unknown>,
  address: string,
  channel: ChannelCredentials = credentials.createInsecure(),
): Promise<Told> {
  const open = () => new DomainServiceClient(address, channel, { 'grpc.use_local_subchannel_pool': 1 });
  const [tookMs, lost]: [number[], string[]] = [[], []];
  const ending = new AbortController();
  const ends = over.finally(() => ending.abort());
  // It is awaited below.
  ends.catch(() => undefined);
  const always = open();
  try {
    for (let count = 1; !ending.signal.aborted; count += 1) {
      const client = count % FRESH === 0 ? open() : always;
      const begun = performance.now();
      const why = await ask(client);
      tookMs.push(performance.now() - begun);
      if (why !== undefined) lost.push(why);
      if (client !== always) client.close();
      await new Promise((resolve) => setTimeout(resolve, REST_MS));
    }
  } finally {
    always.close();
  }
  await ends;
  return { tookMs: tookMs.toSorted((a, b) => a - b), lost };
}

async function ask(client: DomainServiceClient): Promise<string | undefined> {
  return await new Promise((resolve) => {
    const options = { deadline: Date.now() + DEADLINE_MS };
    client.listDomains({ host: '', pageSize: 1, pageToken: '' }, new Metadata(), options, (error) => {
      resolve(error?.message);
    });
  });
}
