/** `blockjob leftovers` and `blockjob reclaim`: objects that jobs could not remove, and their removal. */
import { Command } from 'commander';
import { errorOfStatus, Leftover, type ReclaimResult } from '../../client/index.ts';
import { EXIT } from '../exit.ts';
import { allPages, tellUnreachable } from '../pages.ts';
import type { Run } from '../run.ts';
import { jsonOfReclaimed } from '../show/json.ts';
import { leftoverName } from '../show/names.ts';
import { bytes } from '../units.ts';

export function leftoverCommands(run: Run): Command[] {
  return [leftoversCommand(run), reclaimCommand(run)];
}

function leftoversCommand(run: Run): Command {
  const command = new Command('leftovers')
    .description('list objects that jobs made and could not remove, with the reason')
    .argument('[domain]', 'only those of one VM');
  return command.action(async (domain = '') => {
    await run(command, 'reads', async (session) => {
      const { client, signal } = session;
      const request = { domain: String(domain) };
      const pageAt = async (pageToken: string) => await client.listLeftovers({ ...request, pageToken }, { signal });
      const { items, unreachableHosts } = await allPages(pageAt, ({ leftovers }) => leftovers);
      for (const one of items) session.tell({ type: 'leftover', leftover: Leftover.toJSON(one) }, leftoverInWords(one));
      if (items.length === 0) session.note('there are no leftovers');
      const free = items.filter(({ blockedBy }) => blockedBy === '');
      if (free.length > 0) session.note(`Remove them:  blockjob reclaim --apply ${free.map(({ id }) => id).join(' ')}`);
      return tellUnreachable(session, unreachableHosts);
    });
  });
}

function leftoverInWords({ id, kind, name, host, domain, jobId, allocatedBytes, text, blockedBy }: Leftover): string[] {
  const size = allocatedBytes === 0n ? '' : `, ${bytes(allocatedBytes)}`;
  const lines = [id, `  ${leftoverName(kind)} ${name}${size}, of ${domain} on ${host}, made by job ${jobId}`];
  if (text !== '') lines.push(`  ${text}`);
  if (blockedBy !== '') lines.push(`  It cannot be removed now: ${blockedBy}`);
  return lines;
}

function reclaimCommand(run: Run): Command {
  const command = new Command('reclaim')
    .description('show which leftovers would be removed; with --apply, remove them')
    .argument('<leftover...>', 'ids from blockjob leftovers')
    .option('--apply', 'remove them');
  return command.action(async (leftoverIds: string[]) => {
    const { apply = false }: { apply?: boolean } = command.opts();
    await run(command, 'writes', async (session) => {
      const { results } = await session.client.reclaim({ leftoverIds, apply }, { signal: session.signal });
      for (const one of results) {
        session.tell(
          { type: 'reclaimed', reclaimed: { isApplied: apply, ...jsonOfReclaimed(one) } },
          reclaimedInWords(one, apply),
        );
      }
      const removed = results.filter(({ reclaimed }) => reclaimed).length;
      if (removed === results.length) return EXIT.done;
      return apply && removed > 0 ? EXIT.failed : EXIT.refused;
    });
  });
}

function reclaimedInWords({ leftover, reclaimed, error }: ReclaimResult, isApplied: boolean): string {
  const what = leftover?.name === '' ? leftover.id : (leftover?.name ?? '?');
  if (!reclaimed) return `${what}: not removed: ${error === undefined ? 'unknown' : errorOfStatus(error).message}`;
  return `${what}: ${isApplied ? 'removed' : 'would be removed; add --apply'}`;
}
