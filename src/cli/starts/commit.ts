/** `blockjob commit`: Commit, with the options of `virsh blockcommit`. */
import type { Command } from 'commander';
import { CommitFlag } from '../../client/index.ts';
import { UsageError } from '../terminal.ts';
import { addCommon, addConfigOwner, type StartCommand, type StartFlags, startOf } from './start.ts';

interface CommitFlags extends StartFlags {
  readonly base?: string;
  readonly top?: string;
  readonly shallow?: boolean;
  readonly delete?: boolean;
  readonly active?: boolean;
  readonly keepRelative?: boolean;
}

/** virsh: both imply --active. */
function isActive({ active, pivot, keepOverlay }: CommitFlags): boolean {
  return active === true || pivot === true || keepOverlay === true;
}

export const commit: StartCommand = {
  name: 'commit',
  alias: 'blockcommit',
  summary: 'move the data of upper images down into a lower one',
  example: 'blockjob commit web1 virtio0 --active --wait --verbose --pivot',
  define(command: Command): Command {
    command
      .option('--base <image>', 'the image that takes the data: a path, or DISK[INDEX]; default: the last one')
      .option('--shallow', 'the base is the image just below the top')
      .option('--top <image>', 'the highest image whose data moves; without it the active one')
      .option('--active', 'the top is the active image: the job then stays at READY')
      .option('--delete', 'delete the committed images after success')
      .option('--keep-relative', 'keep the chain’s relative backing file name')
      .option('--pivot', 'implies --active --wait; pivots to the base at READY')
      .option('--keep-overlay', 'implies --active --wait; ends the job at READY, and the guest stays');
    return addCommon(addConfigOwner(command));
  },
  asked: ([domain = '', disk = ''], flags: CommitFlags) => {
    if (flags.pivot === true && flags.keepOverlay === true) {
      throw new UsageError('--pivot and --keep-overlay exclude each other');
    }
    const asked: readonly (readonly [boolean | undefined, CommitFlag])[] = [
      [flags.shallow, CommitFlag.COMMIT_FLAG_SHALLOW],
      [flags.delete, CommitFlag.COMMIT_FLAG_DELETE],
      [isActive(flags), CommitFlag.COMMIT_FLAG_ACTIVE],
      [flags.keepRelative, CommitFlag.COMMIT_FLAG_RELATIVE],
    ];
    const request = {
      ...startOf(domain, disk, flags),
      base: flags.base ?? '',
      top: flags.top ?? '',
      flags: [...asked.flatMap(([is, flag]) => (is === true ? [flag] : [])), CommitFlag.COMMIT_FLAG_BANDWIDTH_BYTES],
    };
    return [
      {
        label: `${domain}/${disk}`,
        send: async (client, validateOnly, call) => await client.commit({ ...request, validateOnly }, call),
      },
    ];
  },
  goal: (flags) => ({
    atReady: flags.pivot === true ? 'pivot' : flags.keepOverlay === true ? 'end' : 'nothing',
    endsByItself: !isActive(flags) || flags.pivot === true || flags.keepOverlay === true,
    keepsGuest: flags.keepOverlay === true,
    timeoutMs: flags.timeout,
  }),
};
