/** `blockjob rebase`: Rebase, flag for flag; and `blockjob pull`, which is its older half under virsh's name. */
import type { Command } from 'commander';
import { RebaseFlag } from '../../client/index.ts';
import { UsageError } from '../terminal.ts';
import { addCommon, addConfigOwner, type StartCommand, type StartFlags, startOf, type WantedJob } from './start.ts';

interface RebaseFlags extends StartFlags {
  readonly base?: string;
  readonly overcommit?: boolean;
  readonly copy?: boolean;
  readonly shallow?: boolean;
  readonly reuseExternal?: boolean;
  readonly copyRaw?: boolean;
  readonly copyDev?: boolean;
  readonly relative?: boolean;
  readonly keepRelative?: boolean;
}

export const pull: StartCommand = {
  name: 'pull',
  alias: 'blockpull',
  summary: 'copy the data of its backing chain into a disk, so that it no longer needs the chain',
  example: 'blockjob pull web1 virtio0 --base /var/lib/images/base.qcow2 --wait --verbose',
  define(command: Command): Command {
    command
      .option('--base <image>', 'the image that becomes the backing file: a path, or DISK[INDEX]; default: none')
      .option('--keep-relative', 'keep the base’s relative name of the chain');
    return addCommon(command);
  },
  asked: ([domain = '', disk = ''], flags: RebaseFlags) => [askedFor(domain, disk, flags.base ?? '', flags)],
  goal: ({ timeout }) => ({ atReady: 'nothing', endsByItself: true, keepsGuest: false, timeoutMs: timeout }),
};

export const rebase: StartCommand = {
  name: 'rebase',
  summary: 'libvirt’s virDomainBlockRebase: a pull down to BASE, or with --copy a copy to it',
  example: 'blockjob rebase web1 virtio0 /new/snap2.qcow2 --copy --shallow --reuse-external --wait --pivot',
  define(command: Command): Command {
    command
      .argument('[base]', 'an image of the chain; with --copy the destination')
      .option('--copy', 'copy to BASE, instead of pulling from it')
      .option('--shallow', 'with --copy, copy the active image only')
      .option('--reuse-external', 'with --copy, use the existing file')
      .option('--copy-raw', 'with --copy, the destination is raw')
      .option('--copy-dev', 'with --copy, the destination must be a block device')
      .option('--overcommit', 'with --copy, start and pivot even if there is less space than is needed')
      .option('--relative', 'write backing file names relative to the image’s folder')
      .option('--pivot', 'implies --wait; pivots to the copy at READY')
      .option('--finish', 'implies --wait; ends the copy at READY');
    return addCommon(addConfigOwner(command));
  },
  asked: ([domain = '', disk = '', base = ''], flags: RebaseFlags) => {
    const { pivot, finish, copy } = flags;
    if (pivot === true && finish === true) throw new UsageError('--pivot and --finish exclude each other');
    if ((pivot === true || finish === true) && copy !== true) {
      throw new UsageError('--pivot and --finish are for a copy: add --copy');
    }
    return [askedFor(domain, disk, base, flags)];
  },
  goal: ({ copy, pivot, finish, timeout }: RebaseFlags) => ({
    atReady: pivot === true ? 'pivot' : finish === true ? 'end' : 'nothing',
    endsByItself: copy !== true || pivot === true || finish === true,
    keepsGuest: finish === true,
    timeoutMs: timeout,
  }),
};

function askedFor(domain: string, disk: string, base: string, flags: RebaseFlags): WantedJob {
  const asked: readonly (readonly [boolean | undefined, RebaseFlag])[] = [
    [flags.copy, RebaseFlag.REBASE_FLAG_COPY],
    [flags.shallow, RebaseFlag.REBASE_FLAG_SHALLOW],
    [flags.reuseExternal, RebaseFlag.REBASE_FLAG_REUSE_EXT],
    [flags.copyRaw, RebaseFlag.REBASE_FLAG_COPY_RAW],
    [flags.copyDev, RebaseFlag.REBASE_FLAG_COPY_DEV],
    [flags.relative ?? flags.keepRelative, RebaseFlag.REBASE_FLAG_RELATIVE],
  ];
  const request = {
    ...startOf(domain, disk, flags),
    base,
    overcommit: flags.overcommit ?? false,
    flags: [...asked.flatMap(([is, flag]) => (is === true ? [flag] : [])), RebaseFlag.REBASE_FLAG_BANDWIDTH_BYTES],
  };
  return {
    label: `${domain}/${disk}`,
    send: async (client, validateOnly, call) => await client.rebase({ ...request, validateOnly }, call),
  };
}
