/** Which header a job is to change, as it was accepted. */
import type { Handover } from './handover.ts';
import type { Accepted } from './journal-entry.ts';

/** Undefined for a copy or an active commit, and where an older service has not written it down. */
export function handoverOf(accepted: Accepted): Handover | undefined {
  return accepted.handover ?? (accepted.kind === 'PULL' ? handoverOfPlan(accepted) : undefined);
}

/** Of a pull an older service has written all of it down, though not as such. */
function handoverOfPlan({ source, plan }: Accepted): Handover | undefined {
  const run = plan.at(-1)?.run;
  if (run?.do !== 'qmp' || run.command.execute !== 'block-stream') return undefined;
  return { data: source, overlay: source, backingFile: run.command.arguments['backing-file'] ?? '' };
}
