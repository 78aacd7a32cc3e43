/** The common part of all modes: certificates, a policy, a server, and an end in order. */
import type { Logger } from 'pino';
import { Guarded } from '../access/guarded.ts';
import { PolicyFile } from '../access/policy-file.ts';
import type { ServingConfig, Sideline } from '../config/config.ts';
import type { BlockJobs } from '../core/block-jobs.ts';
import type { ServerInfo } from '../core/server-info.ts';
import { Certificates } from '../grpc/certificates.ts';
import { serve } from '../grpc/server.ts';
import type { Observer } from '../lib/observer.ts';
import { BUILD, VERSION } from '../lib/version.ts';
import type { RunningPage, servePage } from '../page/page.ts';
import { say } from './log.ts';

/** Undefined for plaintext. Throws with what is wrong with the files. */
export function certificatesOf({ tls }: ServingConfig, log: Logger): Certificates | undefined {
  return tls && new Certificates(tls, log);
}

/** The names of the service and its place; the rest of the server's facts are this process's. */
export interface Served extends Pick<ServerInfo, 'mode' | 'host'> {
  readonly jobs: BlockJobs;
  readonly config: ServingConfig;
  readonly certificates: Certificates | undefined;
  /** For an agent with certificates and without a policy: other callers are refused. */
  readonly gateways?: readonly string[];
  /** Resolves or rejects when the service must end. */
  readonly until: Promise<string>;
  readonly observer: Observer;
  readonly log: Logger;
}

/** Serves until it has to stop, and then lets calls end. */
export async function serveUntil(served: Served): Promise<void> {
  const { mode, host, jobs, config, certificates, gateways, until, observer, log } = served;
  using policy = config.policyFile === undefined ? undefined : new PolicyFile(config.policyFile, log);
  const guarded = policy && new Guarded(jobs, policy);
  const info = { version: VERSION, build: BUILD, mode, host, startTime: new Date(performance.timeOrigin) };
  const server = await serve(guarded ?? jobs, {
    info,
    mayAskForInfo: (call) => guarded?.mayAsk(call),
    listen: config.listen,
    limits: config.callers,
    observer,
    log,
    certificates,
    gateways,
    onlyGateways: gateways !== undefined && certificates !== undefined && policy === undefined,
  });
  let page: RunningPage | undefined;
  try {
    // Loopback belongs to the operator: its users see everything, whatever the policy says about other callers.
    const { page: at } = config;
    page = at && (await beside(at, async () => await pageOf(jobs, { at, info, log }), log));
    say(`blockjobd serves on ${server.address}\n${page === undefined ? '' : `its page is ${page.url}\n`}`, 1);
    log.info({ why: await until }, 'Stopping; jobs continue in QEMU');
  } finally {
    await Promise.all([server.drain(config.drainMs), page?.drain()]);
  }
}

/** Browsers need another protocol, whose code is large: it is loaded only for a page. */
async function pageOf(...served: Parameters<typeof servePage>): Promise<RunningPage> {
  const { servePage } = await import('../page/page.ts');
  return await servePage(...served);
}

/** The first SIGTERM or SIGINT drains; a second one has its default effect, and kills. */
export async function stopRequested(): Promise<string> {
  return await new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
}

/**
 * Opens a part that does not prevent jobs, unless the operator has asked for it: undefined if it could not be opened and
 * is optional; the log says why. Rejects if it was requested.
 */
export async function beside<T>({ isAsked }: Sideline, open: () => Promise<T>, log: Logger): Promise<T | undefined> {
  try {
    return await open();
  } catch (error) {
    if (isAsked) throw error;
    log.warn(`An optional part is left out: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}
