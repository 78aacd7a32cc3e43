/** The header that a job is to change, from what was accepted. */
import type { Handover } from './handover.ts';
import type { Accepted } from './journal-entry.ts';

/** Undefined for a copy or an active commit, and if an older service has not recorded it. */
export function handoverOf(accepted: Accepted): Handover | undefined {
  return accepted.handover ?? (accepted.kind === 'PULL' ? handoverOfPlan(accepted) : undefined);
}

/** An older service has recorded the parts of it for a pull. */
function handoverOfPlan({ source, plan }: Accepted): Handover | undefined {
  const run = plan.at(-1)?.run;
  if (run?.do !== 'qmp' || run.command.execute !== 'block-stream') return undefined;
  return { data: source, overlay: source, backingFile: run.command.arguments['backing-file'] ?? '' };
}
