/**
 * What a QEMU must have for a kind of job, found out by asking it (query-qmp-schema) and never by its number: vendors
 * carry features back into old numbers. Layout of the answer: QEMU docs/devel/qapi-code-gen.rst, "Client JSON Protocol
 * introspection".
 */
import type { JobKind } from '../job-options.ts';
import { list, requiredText, text } from './replies.ts';

/**
 * Each command that QEMU has, with the names of its arguments. Where they depend on one of them, as on blockdev-add's
 * driver, also `COMMAND CASE`, with those of that case alone.
 */
export type Schema = ReadonlyMap<string, ReadonlySet<string>>;

export interface Need {
  readonly command: string;
  readonly arguments: readonly string[];
  /** The version of QEMU that has all of it. */
  readonly since: string;
}

const ENDS = ['auto-finalize', 'auto-dismiss'];
const COMMIT: readonly Need[] = [
  { command: 'block-commit', arguments: ['base-node', 'top-node', 'filter-node-name', ...ENDS], since: '3.1' },
];

/** Newest first: the version that is named has the others, too. */
const ALL: readonly Need[] = [
  { command: 'query-named-block-nodes', arguments: ['flat'], since: '5.0' },
  { command: 'x-debug-query-block-graph', arguments: [], since: '4.0' },
  { command: 'job-dismiss', arguments: [], since: '3.0' },
];

const NEEDS: Readonly<Record<JobKind, readonly Need[]>> = {
  COPY: [
    ...ALL,
    { command: 'blockdev-mirror', arguments: ['filter-node-name', 'copy-mode', 'buf-size', ...ENDS], since: '3.0' },
    { command: 'blockdev-create', arguments: ['job-id', 'options'], since: '3.0' },
  ],
  PULL: [...ALL, { command: 'block-stream', arguments: ['base-node', 'backing-file', ...ENDS], since: '3.0' }],
  COMMIT: [...ALL, ...COMMIT],
  ACTIVE_COMMIT: [...ALL, ...COMMIT],
};

/** What this kind of job needs and the QEMU does not have. */
export function missing(schema: Schema, kind: JobKind): Need | undefined {
  return NEEDS[kind].find(({ command, arguments: names }) => {
    const has = schema.get(command);
    return has === undefined || names.some((name) => !has.has(name));
  });
}

/**
 * Does a mirror leave out the source's zeroes where its target reads as zeroes? It does so since it has that argument
 * (10.1). A QEMU that does not tell is taken to.
 */
export function leavesZeroesOut(schema: Schema | undefined): boolean {
  return schema?.get('blockdev-mirror')?.has('target-is-zero') ?? true;
}

/** Can the time be bounded for which QEMU waits for an NBD server when it opens it (7.0)? */
export function boundsNbdOpen(schema: Schema | undefined): boolean {
  return schema?.get('blockdev-add nbd')?.has('open-timeout') ?? false;
}

/** Can it compare two nodes? Some vendors leave that driver out. A QEMU that does not tell is taken to be able to. */
export function canCompare(schema: Schema | undefined): boolean {
  return schema?.has('blockdev-add quorum') ?? true;
}

/** Can a network connection that hangs be broken (6.0)? A QEMU that does not tell is taken to be able to. */
export function canYank(schema: Schema | undefined): boolean {
  return schema?.has('yank') ?? true;
}

/**
 * Can it pull into clusters that are written in part (qcow2 with extended L2 entries)? 5.2 and 7.2 end themselves when
 * they try, 10.0 does it. None tells; so a command tells that came in between, in 8.2.
 */
export function pullsToSubclusters(schema: Schema | undefined): boolean {
  return schema?.has('block-job-change') ?? false;
}

/** The names of types in it are arbitrary numbers: they are only followed. */
export function readSchema(reply: unknown): Schema {
  const what = 'query-qmp-schema';
  const entries = list(reply, what);
  const byName = new Map(entries.map((entry) => [requiredText(entry, 'name', what), entry]));
  const membersOf = (type: unknown) => {
    const members = list(byName.get(text(type) ?? '')?.['members'] ?? [], what);
    return new Set(members.flatMap((member) => text(member['name']) ?? []));
  };
  const commands = entries.filter((entry) => entry['meta-type'] === 'command');
  return new Map(
    commands.flatMap((command) => {
      const name = requiredText(command, 'name', what);
      const type = command['arg-type'];
      const cases = list(byName.get(text(type) ?? '')?.['variants'] ?? [], what);
      return [
        [name, membersOf(type)] as const,
        ...cases.map((one) => [`${name} ${requiredText(one, 'case', what)}`, membersOf(one['type'])] as const),
      ];
    }),
  );
}
