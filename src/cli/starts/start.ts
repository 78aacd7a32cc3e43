/** The common part of the commands that start a job: each can start it, or ask with `plan` what the start would do. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { Accept, type BlockJobClient, type CallOptions, ConfigOwner, type Started } from '../../client/index.ts';
import { addLabels, type LabelsGiven } from '../labels.ts';
import { bandwidthFrom, parseBandwidth, parseDuration } from '../units.ts';

/** The action of this command at READY. The service itself does it if the contract allows that. */
export type AtReady = 'nothing' | 'pivot' | 'end';

/** One requested job. */
export interface WantedJob {
  /** `web1/virtio0`. */
  readonly label: string;
  send(client: BlockJobClient, validateOnly: boolean, call: CallOptions): Promise<Started>;
}

export interface Goal {
  readonly atReady: AtReady;
  /** Whether the job ends by itself, or by the action at READY; otherwise it stays at READY. */
  readonly endsByItself: boolean;
  /** Whether the guest has to stay where it is, so that a pivot by any client is not the requested end. */
  readonly keepsGuest: boolean;
  /** For jobs without a time limit in the service: this command ends them. */
  readonly timeoutMs: number | undefined;
}

export interface StartCommand {
  readonly name: string;
  /** The name in virsh. */
  readonly alias?: string;
  readonly summary: string;
  readonly example: string;
  /** The arguments after DOMAIN DISK, and the options of the request. */
  define(command: Command): Command;
  asked(args: readonly string[], flags: StartFlags): readonly WantedJob[];
  goal(flags: StartFlags): Goal;
}

/** All options of a start; each command uses those that it has defined. */
export interface StartFlags {
  readonly wait?: boolean;
  readonly verbose?: boolean;
  readonly async?: boolean;
  readonly pivot?: boolean;
  readonly finish?: boolean;
  readonly keepOverlay?: boolean;
  readonly timeout?: number;
  readonly bandwidth?: string;
  readonly bytes?: boolean;
  readonly planEtag?: string;
  readonly requestId?: string;
  readonly accept?: readonly Accept[];
  readonly label?: LabelsGiven;
  readonly configOwner?: keyof typeof CONFIG_OWNER;
}

const CONFIG_OWNER = { none: ConfigOwner.CONFIG_OWNER_NONE, external: ConfigOwner.CONFIG_OWNER_EXTERNAL };

const ACCEPT = {
  'loses-encryption': Accept.ACCEPT_LOSES_ENCRYPTION,
  'loses-internal-snapshots': Accept.ACCEPT_LOSES_INTERNAL_SNAPSHOTS,
  'shared-writer': Accept.ACCEPT_SHARED_WRITER,
} as const;

function isAccept(word: string): word is keyof typeof ACCEPT {
  return Object.hasOwn(ACCEPT, word);
}

function parseAccept(word: string, before: readonly Accept[] = []): readonly Accept[] {
  if (!isAccept(word)) throw new InvalidArgumentError(`Allowed choices are ${Object.keys(ACCEPT).join(', ')}.`);
  return [...before, ACCEPT[word]];
}

/** The fields of every request that starts a job. */
export function startOf(domain: string, disk: string, flags: StartFlags) {
  return {
    disk: { domain, disk },
    bandwidth: bandwidthFrom(flags.bandwidth ?? '0', flags.bytes ?? false),
    requestId: flags.requestId ?? '',
    labels: flags.label ?? {},
    planEtag: flags.planEtag ?? '',
    accept: [...(flags.accept ?? [])],
    configOwner:
      flags.configOwner === undefined ? ConfigOwner.CONFIG_OWNER_UNSPECIFIED : CONFIG_OWNER[flags.configOwner],
  };
}

export function addBandwidth(command: Command): Command {
  return command
    .option(
      '--bandwidth <speed>',
      'the speed limit, such as 100MiB or 1G; a number without a unit is in MiB/s; 0 for no limit',
      parseBandwidth,
    )
    .option('--bytes', 'a --bandwidth without a unit is in bytes/s');
}

/** For a job with a pivot. */
export function addConfigOwner(command: Command): Command {
  return command.addOption(
    new Option(
      '--config-owner <owner>',
      'with external, another program has to record the new path before the pivot; default: that of the host',
    ).choices(Object.keys(CONFIG_OWNER)),
  );
}

export function addTimeout(command: Command, until: string): Command {
  const what = `implies --wait; cancel the job if it is not done in this time, ${until}: 90 (seconds), 5m, 1h30m`;
  return command.option('--timeout <time>', what, parseDuration);
}

export function addStarting(command: Command): Command {
  return addLabels(command, 'a label of the job')
    .addOption(
      new Option('--accept <loss>', 'start although this is lost; may be repeated')
        .choices(Object.keys(ACCEPT))
        .argParser(parseAccept),
    )
    .option('--plan-etag <etag>', 'start only if the plan still has this etag')
    .option('--request-id <id>', 'an id of your own for this action, so that the command can be repeated safely');
}

/** For a job that the service does not end by a time limit of its own. */
export function addCommon(command: Command): Command {
  return addStarting(addTimeout(addBandwidth(command), 'as long as this command runs'));
}

/** For a command that starts; a plan waits for nothing. */
export function addWaiting(command: Command): Command {
  return command
    .option('--wait', 'wait for the end, or for READY if the job stays there')
    .option('--verbose', 'with --wait, show the progress')
    .option('--async', 'with --timeout, do not wait for the end of the cancelled job');
}
