/** How much callers may use, from the command line. */
import type { Command } from 'commander';
import { CALLER_LIMITS, type CallerLimits } from '../core/limits.ts';
import { parseAge, parseCount, parseStreams } from './values.ts';

export interface CallerFlags {
  readonly maxConnections: number;
  readonly maxHostConnections: number;
  readonly maxStreams: number;
  readonly maxWatches: number;
  readonly maxConnectionSeconds: number;
}

export function addCallerLimits(command: Command): Command {
  return command
    .option(
      '--max-connections <number>',
      'how many connections callers may have',
      parseCount,
      CALLER_LIMITS.connections,
    )
    .option(
      '--max-host-connections <number>',
      'how many of them may come from one address',
      parseCount,
      CALLER_LIMITS.peerConnections,
    )
    .option(
      '--max-streams <number>',
      'how many calls a connection may have at the same time; a gateway may have more',
      parseStreams,
      CALLER_LIMITS.streams,
    )
    .option(
      '--max-watches <number>',
      'how many watches there may be at the same time; five sixths of them from one address',
      parseCount,
      CALLER_LIMITS.watches,
    )
    .option(
      '--max-connection-seconds <seconds>',
      'how old a connection may become; then it is replaced, with the current certificates',
      parseAge,
      CALLER_LIMITS.connectionMs / 1000,
    );
}

export function callerLimitsOf(flags: CallerFlags): CallerLimits {
  return {
    connections: flags.maxConnections,
    peerConnections: flags.maxHostConnections,
    streams: flags.maxStreams,
    watches: flags.maxWatches,
    connectionMs: flags.maxConnectionSeconds * 1000,
  };
}
