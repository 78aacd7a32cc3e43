/** The labels of jobs on the command line: KEY=VALUE, given several times. */
import { type Command, InvalidArgumentError } from 'commander';

export type LabelsGiven = Readonly<Record<string, string>>;

export interface FilterFlags {
  readonly label?: LabelsGiven;
  readonly createdBy?: string;
}

function parseLabel(text: string, before: LabelsGiven = {}): LabelsGiven {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Give KEY=VALUE.');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

export function addLabels(command: Command, what: string): Command {
  return command.option('--label <key=value>', `${what}; may be given several times`, parseLabel);
}

export function addFilters(command: Command): Command {
  return addLabels(command, 'jobs with this label only').option(
    '--created-by <caller>',
    'jobs that this caller has started',
  );
}

/** As requests have them. */
export function filtersOf({ label = {}, createdBy = '' }: FilterFlags) {
  return { labelFilter: label, createdByFilter: createdBy };
}
