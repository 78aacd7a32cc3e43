/** Checks what the service has said about a move: with QEMU's graph, each file, and each byte. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { DestinationContent, type Job } from '../../generated/blockjob/v1/job.ts';
import { graphOf } from '../support/checks.ts';
import type { Admin } from '../support/real-qemu/qemu.ts';
import { type Chain, type Link, mayChange, mayGo } from './chain.ts';
import { expectShows, expectSnapshot, type Viewer } from './cold.ts';
import type { Contents } from './contents.ts';
import type { Move } from './move.ts';
import { isDone } from './steering.ts';
import type { View } from './view.ts';
import { look, touched, type World } from './world.ts';
import { must } from './wrong.ts';

const { DESTINATION_CONTENT_COMPLETE: COMPLETE } = DestinationContent;

export interface Moved {
  readonly move: Move;
  readonly job: Job;
  readonly before: Chain;
  readonly after: Chain;
  /** The image that a copy has made. */
  readonly made: Link | undefined;
  /** The files that may still change, because of earlier moves. */
  readonly late: ReadonlySet<string>;
  /** All files before the move. */
  readonly files: World;
  readonly shows: Contents;
  readonly admin: Admin;
  readonly folder: string;
  readonly scratch: string;
  readonly view: View;
  /** A file was renamed meanwhile, and has its name again. */
  readonly wasRenamed: boolean;
}

/** The guest writes nothing meanwhile. */
export async function expectTrue(moved: Moved): Promise<void> {
  const { job, after, made, files, shows, admin, folder, scratch, before, move, view, wasRenamed } = moved;
  const { outcome } = job;
  if (outcome === undefined) throw new Error('no outcome');
  const viewer = { scratch, under: view.under, isLive: true };
  const [active] = after;
  const may = [...mayChange(before, move), ...mayGo(before, move), ...(made ? [made] : [])].flatMap((link) =>
    link.files.map(view.outside),
  );
  const changed = touched(files, await look(folder), new Set([...may, ...moved.late]));
  must(changed.length === 0, `not to be touched: ${changed.join(', ')}`);

  must(outcome.guestWritesTo === active.path, `the guest writes to ${active.path}, not ${outcome.guestWritesTo}`);
  must(outcome.nextStartPath === active.path, `to start from: ${active.path}, not ${outcome.nextStartPath}`);
  await expectSettled(admin, after);
  await expectShows('as the guest’s disk', active, shows, viewer);
  for (const link of after) await expectSnapshot(link, viewer);
  const isComplete = outcome.destinationContent === COMPLETE;
  if (isComplete)
    await expectShows(
      'called COMPLETE',
      made ?? (move.what === 'commit' ? before[move.base] : undefined) ?? active,
      shows,
      viewer,
    );
  // An image that was renamed by then is left alone.
  const isGone = made !== undefined && (wasRenamed || !existsSync(made.path));
  if (outcome.destinationRemoved) must(isGone, 'it is not removed');

  for (const { path } of outcome.safeToDelete) {
    const held = after.find((link) => link.path === path || link.files.includes(path));
    must(held === undefined, `called safe to delete, and in use: ${path}`);
    // Under that name everybody finds the file that QEMU had, and no other one.
    must(view.outside(path) === path, `called safe to delete, and another file: ${path}`);
    if (!path.startsWith('/dev/')) await rm(path);
  }
  await expectShows('after the deletions', active, shows, viewer);
}

/** A completed or COMPLETE move is true for the present names, whatever others have renamed. */
export async function expectClaims(
  { move, job, before, after, made }: Pick<Moved, 'move' | 'job' | 'before' | 'after' | 'made'>,
  shows: Contents,
  viewer: Viewer,
): Promise<void> {
  const { outcome } = job;
  if (isDone(move, job)) await expectShows('called done', after[0], shows, viewer);
  if (outcome?.destinationContent !== COMPLETE) return;
  const copy = made ?? (move.what === 'commit' ? before[move.base] : undefined) ?? after[0];
  await expectShows('called COMPLETE', copy, shows, viewer);
}

/** No job is left, and only files of the disk are open. */
async function expectSettled(admin: Admin, chain: Chain): Promise<void> {
  const { jobs, nodes } = await graphOf(admin);
  must(jobs.length === 0, `QEMU still has ${jobs.join(', ')}`);
  const known = new Set(chain.flatMap(({ path, files }) => [path, ...files]));
  const storages = nodes.filter((node) => / (file|host_device) /.test(node));
  const open = storages.map((node) => resolve(node.replace(/^\S+ \S+ /, '')));
  const unused = open.filter((path) => !known.has(path));
  must(unused.length === 0, `QEMU still has open ${unused.join(', ')}`);
}
