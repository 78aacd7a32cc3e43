/** A plan as steps for people, phase by phase. */
import { type Plan, type PlanStep, PlanStep_Phase } from '../../client/index.ts';
import { destinationOf } from './job.ts';
import { kindInWords } from './names.ts';

const PHASES: readonly (readonly [PlanStep['phase'], string])[] = [
  [PlanStep_Phase.PHASE_START, 'To start'],
  [PlanStep_Phase.PHASE_PIVOT, 'To pivot, when READY'],
  [PlanStep_Phase.PHASE_CANCEL, 'To end without a pivot'],
  [PlanStep_Phase.PHASE_FINISH, 'When all data is moved'],
  [PlanStep_Phase.PHASE_CLEAN_UP, 'After the end'],
];

export function planInWords(label: string, plan: Plan): string[] {
  const { kind, sourcePath, destination, steps, notes, etag, options } = plan;
  const where = destinationOf(destination) || (options?.basePath ?? '');
  const lines = [`${kindInWords(kind)} of ${label}`, `  from  ${sourcePath}`];
  if (where !== '') lines.push(`  to    ${where}`);
  for (const [phase, heading] of PHASES) {
    const found = steps.filter((step) => step.phase === phase);
    if (found.length > 0) lines.push(`${heading}:`, ...found.flatMap((step, index) => stepInWords(step, index + 1)));
  }
  if (notes.length > 0) lines.push('Notes:', ...notes.map((note) => `  - ${note}`));
  return [...lines, 'Nothing has been changed. To start exactly this plan:', `  add --plan-etag ${etag}`];
}

function stepInWords({ name, run, undo, reason }: PlanStep, number: number): string[] {
  const lines = [`  ${String(number).padStart(2)}. ${name}${reason === '' ? '' : `: ${reason}`}`];
  if (run !== '') lines.push(`        ${run}`);
  if (undo !== '') lines.push(`        undone by: ${undo}`);
  return lines;
}
