/**
 * The position of a watcher of all jobs, as opaque text for callers: a position on each host, and a digest of the
 * filters.
 */
import { createHash } from 'node:crypto';
import { canonical } from '../core/canonical.ts';
import type { WatchFilter } from '../core/job/labels.ts';
import { type JobsMessage, type Position, type Positions, positionsIn } from '../core/jobs-message.ts';
import { invalidField } from '../core/rules/rule.ts';
import { BOUNDS } from './bounds.ts';

const VERSION = '1';
const LONGEST = BOUNDS['blockjob.v1.WatchJobsRequest.resume_token']?.bytes ?? 0;
/** A longer token is not in each message. */
const SHORT = 1024;
const AT_LEAST_EACH = 100;

/** Throws FIELD_INVALID for a token of a watch with other filters. The token '' has no positions. */
export function positionsOf(token: string, filter: WatchFilter): Positions {
  if (token === '') return new Map();
  const [version, jobs, ...places] = Buffer.from(token, 'base64url').toString().split('\n');
  if (version !== VERSION) throw invalidField('resume_token', 'is not a token of WatchJobs; watch again without it');
  if (jobs !== digestOf(filter)) {
    throw invalidField('resume_token', 'belongs to a watch with other filters; watch again without it');
  }
  return new Map(places.map(placeIn));
}

function placeIn(line: string): readonly [string, Position] {
  const [at = '', epoch = '', host = ''] = line.split(' ');
  return [decodeURIComponent(host), { epoch, at: Number(at) }];
}

export class ResumeTokens {
  readonly #jobs: string;
  readonly #places = new Map<string, string>();
  #since = 0;

  constructor({ positions, ...filter }: WatchFilter & { readonly positions: Positions }) {
    this.#jobs = digestOf(filter);
    this.#take(positions);
  }

  /** The token to send with a message. '' if none is sent: the last one stays valid. */
  after(message: JobsMessage): string {
    // A snapshot replaces all that the client knows about the host, and only a complete one can be resumed from.
    if (message.is === 'SNAPSHOT') this.#places.delete(message.host);
    this.#take(positionsIn(message));
    this.#since += 1;
    if (this.#places.size === 0) return '';
    const isDue = message.is === 'SYNCED' || message.is === 'HEARTBEAT' || this.#since >= AT_LEAST_EACH;
    if (!isDue && this.#places.size * 20 > SHORT) return '';
    const token = this.#token();
    if (!isDue && token.length > SHORT) return '';
    this.#since = 0;
    return token;
  }

  #take(positions: Positions): void {
    for (const [host, { epoch, at }] of positions) {
      this.#places.set(host, `${at} ${epoch} ${encodeURIComponent(host.toWellFormed())}`);
    }
  }

  /** Hosts that do not fit into it start again with a snapshot. */
  #token(): string {
    const lines = [VERSION, this.#jobs];
    let room = (LONGEST * 3) / 4 - lines.join('\n').length;
    for (const place of this.#places.values()) {
      room -= place.length + 1;
      if (room < 0) break;
      lines.push(place);
    }
    return Buffer.from(lines.join('\n')).toString('base64url');
  }
}

function digestOf({ domain, labels, createdBy, activeOnly }: WatchFilter): string {
  return createHash('sha256')
    .update(JSON.stringify(canonical({ domain, labels, createdBy, activeOnly })) ?? '')
    .digest('base64url')
    .slice(0, 8);
}
