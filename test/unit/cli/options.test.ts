/**
 * Every declared option has an effect: an option that nobody reads, or a destination that cannot be named, is found.
 */
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { destinationFrom } from '../../../src/cli/destination.ts';
import { destinationOf } from '../../../src/cli/show/job.ts';
import { commit } from '../../../src/cli/starts/commit.ts';
import { copy } from '../../../src/cli/starts/copy.ts';
import { pull, rebase } from '../../../src/cli/starts/rebase.ts';
import type { StartFlags } from '../../../src/cli/starts/start.ts';
import type { Destination } from '../../../src/client/index.ts';

/** Virsh has this option, and it asks for the only behaviour here. */
const SAYS_NOTHING = ['transientJob'];

describe.each([copy, pull, commit, rebase])('blockjob $name', (start) => {
  it('reads each option that it has', () => {
    const read = new Set<PropertyKey>(SAYS_NOTHING);
    const none: StartFlags = {};
    const flags = new Proxy(none, {
      get: (_none, name) => {
        read.add(name);
        return undefined;
      },
    });
    for (const destination of ['/copy', 'nbd://host/export']) start.asked(['vm1', 'vd0', destination], flags);
    start.goal(flags);
    const has = start.define(new Command()).options.map((option) => option.attributeName());
    expect(has.filter((name) => !read.has(name))).toEqual([]);
  });
});

/** A line for each kind that the contract has. */
const LINES: Readonly<
  Record<NonNullable<Destination['target']>['$case'], readonly [text: string, flags: { readonly blockdev?: boolean }]>
> = {
  file: ['/copy', {}],
  blockDevice: ['/dev/vg/copy', { blockdev: true }],
  nbd: ['nbd://host:10809/export', {}],
};

it.each(Object.entries(LINES))(
  'a destination of kind %s is named and shown with the same words',
  (kind, [text, flags]) => {
    const destination = destinationFrom(text, flags);
    expect(destination.target?.$case).toBe(kind);
    expect(destinationOf(destination)).toBe(text);
  },
);
