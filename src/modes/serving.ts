/** What all modes have in common: a log, certificates, a policy, a server, and an end that leaves nobody in doubt. */
import { type Logger, pino } from 'pino';
import { Guarded } from '../access/guarded.ts';
import { PolicyFile } from '../access/policy-file.ts';
import type { ServingConfig } from '../config/config.ts';
import type { BlockJobs } from '../core/block-jobs.ts';
import { Certificates } from '../grpc/certificates.ts';
import { serve } from '../grpc/server.ts';
import { type RunningPage, servePage } from '../page/page.ts';

export function logOf({ logLevel }: ServingConfig): Logger {
  return pino({ level: logLevel }, pino.destination({ dest: 2, sync: true }));
}

/** Undefined: plaintext. Throws with what is wrong with the files. */
export function certificatesOf({ tls }: ServingConfig, log: Logger): Certificates | undefined {
  return tls && new Certificates(tls, log);
}

export interface Served {
  readonly jobs: BlockJobs;
  readonly config: ServingConfig;
  readonly certificates: Certificates | undefined;
  /** Of an agent: with certificates, and without a policy, nobody else is answered. */
  readonly gateways?: readonly string[];
  /** The name of a domain that was named by its UUID. */
  readonly nameOf: (domain: string) => string | undefined;
  /** Resolves or rejects: no more of this. */
  readonly until: Promise<string>;
  readonly log: Logger;
}

/** Serves until it is told to stop, and then lets calls end. */
export async function serveUntil({ jobs, config, certificates, gateways, nameOf, until, log }: Served): Promise<void> {
  using policy = config.policyFile === undefined ? undefined : new PolicyFile(config.policyFile, log);
  const guarded = policy === undefined ? jobs : new Guarded({ jobs, policy: () => policy.now, nameOf });
  const server = await serve(guarded, {
    listen: config.listen,
    log,
    ...(certificates === undefined ? {} : { certificates }),
    ...(gateways === undefined ? {} : { gateways, onlyGateways: certificates !== undefined && policy === undefined }),
  });
  let page: RunningPage | undefined;
  try {
    // Loopback is the operator's own: whoever is there sees all, whatever the policy says of callers from elsewhere.
    page = config.page && (await servePage(jobs, config.page, log));
    process.stdout.write(
      `blockjobd serves on ${server.address}\n${page === undefined ? '' : `its page is ${page.url}\n`}`,
    );
    log.info({ why: await until }, 'stopping; jobs go on in QEMU');
  } finally {
    await Promise.all([server.drain(config.drainMs), page?.drain()]);
  }
}

/** The first SIGTERM or SIGINT drains; a second one is the system's own again, and kills. */
export async function stopRequested(): Promise<string> {
  return await new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
}
