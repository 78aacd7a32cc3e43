/**
 * The watch of all jobs, for a caller with limited rights. Each position contains a digest of the caller's rights. If
 * the rights change, the watch starts again with a snapshot: the client forgets jobs that it may no longer read, and
 * gets the jobs that it may read now.
 */
import { createHash } from 'node:crypto';
import type { BlockJobs, Call, Requests } from '../core/block-jobs.ts';
import { type JobsMessage, type Position, type Positions, positionsIn } from '../core/jobs-message.ts';
import type { PolicyFile } from './policy-file.ts';

interface Seen {
  readonly jobs: Pick<BlockJobs, 'watchJobs'>;
  readonly policy: Pick<PolicyFile, 'onChange'>;
}

export async function* seenJobs(
  { jobs, policy }: Seen,
  request: Requests['watchJobs'],
  held: Call,
): AsyncGenerator<JobsMessage> {
  let { positions } = request;
  while (!held.signal.aborted) {
    const view = viewOf(held);
    const other = new AbortController();
    using _changes = policy.onChange(() => {
      if (viewOf(held) !== view) other.abort();
    });
    const signal = AbortSignal.any([held.signal, other.signal]);
    const asked = mapped(positions, (position) => inside(position, view));
    for await (const message of jobs.watchJobs({ ...request, positions: asked }, { ...held, signal })) {
      if (other.signal.aborted) break;
      const shown = outside(message, view);
      positions = new Map([...positions, ...positionsIn(shown)]);
      yield shown;
    }
    if (!other.signal.aborted) return;
  }
}

function viewOf({ rights = [] }: Call): string {
  const grants = JSON.stringify(rights.map((now) => now()));
  return createHash('sha256').update(grants).digest('base64url').slice(0, 6);
}

/** The position as the wrapped BlockJobs knows it. With other rights its epoch is '', which is never valid. */
function inside({ epoch, at }: Position, view: string): Position {
  const own = `.${view}`;
  return { epoch: epoch.endsWith(own) ? epoch.slice(0, -own.length) : '', at };
}

function outside(message: JobsMessage, view: string): JobsMessage {
  const shown = ({ epoch, at }: Position) => ({ epoch: `${epoch}.${view}`, at });
  if (message.is === 'HEARTBEAT') return { ...message, positions: mapped(message.positions, shown) };
  if (message.is === 'SYNCED') return { ...message, position: shown(message.position) };
  if (message.is !== 'EVENT' || message.position === undefined) return message;
  return { ...message, position: shown(message.position) };
}

function mapped(positions: Positions, to: (position: Position) => Position): Positions {
  return new Map([...positions].map(([host, position]) => [host, to(position)]));
}
