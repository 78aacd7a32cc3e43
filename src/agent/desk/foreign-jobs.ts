/** Jobs in the VMs of this host that this service has not begun: asked at each request, and not kept. */
import type { Call } from '../../core/block-jobs.ts';
import { diskOfJob, type ForeignJob, type ForeignJobs, NO_FOREIGN_JOBS, together } from '../../core/foreign-job.ts';
import { jobOf } from '../../core/job/names.ts';
import type { QemuJob } from '../../core/qemu/replies.ts';
import type { ListJobsRequest } from '../../core/requests.ts';
import { may } from '../../core/rights.ts';
import { showsForeign } from '../../core/rules/list.ts';
import { inTime } from '../../lib/timer.ts';
import { isManaged } from '../job/managed.ts';
import type { WhoseJobs } from '../job/whose-jobs.ts';
import { machineHasEnded, QEMU_ANSWERS_MS } from '../qemu/graphs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

export interface ForeignSite {
  readonly host: string;
  readonly machines: VirtualMachines;
  readonly whose: Pick<WhoseJobs, 'wasOurs'>;
}

export async function foreignJobs(request: ListJobsRequest, call: Call, site: ForeignSite): Promise<ForeignJobs> {
  const { domain } = request;
  if (!showsForeign(request)) return NO_FOREIGN_JOBS;
  const readable = site.machines.domains.filter(({ name }) => may(call, 'read', name));
  const named = readable.filter((machine) => domain === '' || machine.answersTo(domain));
  return together(await Promise.all(named.map(async (machine) => await foreignIn(machine, site))));
}

async function foreignIn(machine: VirtualMachine, { host, whose }: ForeignSite): Promise<ForeignJobs> {
  const { name: domain, uuid: domainUuid } = machine;
  const found = await answerOf(machine, async () => {
    const jobs = await machine.jobs();
    const foreign: QemuJob[] = [];
    for (const job of jobs) if (!(await isOurs(job, whose))) foreign.push(job);
    return { foreign, isOfLibvirt: foreign.length > 0 && (await isManaged(machine)) };
  });
  if (found === undefined) {
    const isGone = machine.nobodyListens || (await machineHasEnded(machine));
    return isGone ? NO_FOREIGN_JOBS : { ...NO_FOREIGN_JOBS, unreachableDomains: [domain] };
  }
  const { foreign, isOfLibvirt } = found;
  // The disk is optional information; a QEMU that formats an image is not asked for it.
  const graph = foreign.some(usesImages) ? await answerOf(machine, async () => await machine.graph()) : undefined;
  const jobs = foreign.map(
    (job): ForeignJob => ({ ...job, host, domain, domainUuid, disk: graph && diskOfJob(graph, job.id), isOfLibvirt }),
  );
  return { foreignJobs: jobs, unreachableDomains: [] };
}

/** Undefined if it does not answer. A QEMU that has been silent for so long is not asked again and again. */
async function answerOf<T>(machine: VirtualMachine, ask: () => Promise<T>): Promise<T | undefined> {
  return machine.silence.ms > QEMU_ANSWERS_MS ? undefined : await inTime(ask(), QEMU_ANSWERS_MS);
}

async function isOurs({ id }: QemuJob, whose: ForeignSite['whose']): Promise<boolean> {
  const job = jobOf(id);
  return job !== undefined && (await whose.wasOurs(job));
}

/** QEMU shows no edge to an image for a job that formats a node, or that saves the whole VM. */
function usesImages({ type, status }: QemuJob): boolean {
  return !['create', 'snapshot-save', 'snapshot-load', 'snapshot-delete'].includes(type) && status !== 'concluded';
}
