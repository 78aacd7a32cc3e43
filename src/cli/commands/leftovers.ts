/** `blockjob leftovers` and `blockjob reclaim`: what jobs could not take back, and its removal. */
import { Command } from 'commander';
import { errorOfStatus, type Leftover, type ReclaimResult } from '../../client/index.ts';
import { EXIT } from '../exit.ts';
import { allPages, tellUnreachable } from '../pages.ts';
import type { Run } from '../run.ts';
import { jsonOfLeftover, jsonOfReclaimed } from '../show/json.ts';
import { leftoverName } from '../show/names.ts';
import { bytes } from '../units.ts';

export function leftoverCommands(run: Run): Command[] {
  return [leftoversCommand(run), reclaimCommand(run)];
}

function leftoversCommand(run: Run): Command {
  const command = new Command('leftovers')
    .description('list what jobs made and could not take back, and why')
    .argument('[domain]', 'those of one VM');
  return command.action(async (domain = '') => {
    await run(command, 'reads', async (session) => {
      const { client, signal } = session;
      const { items, unreachableHosts } = await allPages(async (pageToken) => {
        const { leftovers, ...page } = await client.listLeftovers({ domain: String(domain), pageToken }, { signal });
        return { ...page, items: leftovers };
      });
      for (const one of items) session.tell({ type: 'leftover', leftover: jsonOfLeftover(one) }, leftoverInWords(one));
      if (items.length === 0) session.note('nothing is left over');
      const free = items.filter(({ blockedBy }) => blockedBy === '');
      if (free.length > 0) session.note(`Remove it:  blockjob reclaim --apply ${free.map(({ id }) => id).join(' ')}`);
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
    .description('say what of the leftovers would be removed; with --apply, remove it')
    .argument('<leftover...>', 'ids, as blockjob leftovers shows them')
    .option('--apply', 'remove it');
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
  if (!reclaimed) return `${what}: stays: ${error === undefined ? 'unknown' : errorOfStatus(error).message}`;
  return `${what}: ${isApplied ? 'removed' : 'would be removed; add --apply'}`;
}
