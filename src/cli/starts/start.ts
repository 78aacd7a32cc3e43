/** What the commands that start a job have in common: each is used to start, and by `plan` to ask what that would do. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { Accept, type BlockJobClient, type CallOptions, type Started } from '../../client/index.ts';
import { parseBandwidth, parseDuration } from '../units.ts';

/** What is done when the job is READY, by this command: the service does it by itself where the contract lets it. */
export type AtReady = 'nothing' | 'pivot' | 'end';

/** One job that is asked for. */
export interface WantedJob {
  /** `web1/virtio0`. */
  readonly label: string;
  send(client: BlockJobClient, validateOnly: boolean, call: CallOptions): Promise<Started>;
}

export interface Goal {
  readonly atReady: AtReady;
  /** Come to an end by themselves, or by what is done at READY; else READY is as far as they get. */
  readonly endsByItself: boolean;
  /** The guest is to stay where it is: a pivot, whoever asks for it, is not what was asked for. */
  readonly keepsGuest: boolean;
  /** For jobs whose time the service does not bound: then this command ends them. */
  readonly timeoutMs: number | undefined;
}

export interface StartCommand {
  readonly name: string;
  /** virsh's name. */
  readonly alias?: string;
  readonly summary: string;
  readonly example: string;
  /** Arguments, and the options of the request. */
  define(command: Command): Command;
  asked(args: readonly string[], flags: StartFlags): readonly WantedJob[];
  goal(flags: StartFlags): Goal;
}

/** All that a start may be told; each takes what it has defined. */
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
}

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

export function addBandwidth(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--bandwidth <speed>',
        'the speed limit, as 100MiB or 1G; a number alone is MiB/s; 0 is none',
      ).argParser(parseBandwidth),
    )
    .option('--bytes', 'a --bandwidth without a unit is in bytes/s');
}

export function addTimeout(command: Command, what: string): Command {
  return command.addOption(
    new Option('--timeout <time>', `implies --wait; ${what}, as 90 (seconds), 5m, 1h30m`).argParser(parseDuration),
  );
}

export function addStarting(command: Command): Command {
  return command
    .addOption(
      new Option('--accept <loss>', 'start although this is lost; may be given several times')
        .choices(Object.keys(ACCEPT))
        .argParser(parseAccept),
    )
    .option('--plan-etag <etag>', 'start only if the plan is still this one')
    .option('--request-id <id>', 'name this action yourself, so that repeating the command is harmless');
}

/** For the command that starts; a plan waits for nothing. */
export function addWaiting(command: Command): Command {
  return command
    .option('--wait', 'wait for the end, or for READY where the job then holds')
    .option('--verbose', 'with --wait, show the progress')
    .option('--async', 'with --timeout, do not wait for the end of what is cancelled');
}
