/**
 * The features that a kind of job needs, found in QEMU's own schema (query-qmp-schema) and never by its version:
 * vendors backport features. The layout of the answer is in QEMU docs/devel/qapi-code-gen.rst, "Client JSON Protocol
 * introspection".
 */
import type { JobKind } from '../job-options.ts';
import { list, requiredText, text } from './replies.ts';

/**
 * Each command of QEMU with the names of its arguments. If they depend on the value of an argument, for example
 * blockdev-add's driver, there is also `COMMAND CASE` with the arguments of that case alone.
 */
export type Schema = ReadonlyMap<string, ReadonlySet<string>>;

export interface Need {
  readonly command: string;
  readonly arguments: readonly string[];
  /** The first version of QEMU that has all of it. */
  readonly since: string;
}

const ENDS = ['auto-finalize', 'auto-dismiss'];
const COMMIT: readonly Need[] = [
  { command: 'block-commit', arguments: ['base-node', 'top-node', 'filter-node-name', ...ENDS], since: '3.1' },
];

/** Newest first: the named version has the others, too. */
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

/** The features that this kind of job needs and this QEMU does not have. */
export function missing(schema: Schema, kind: JobKind): Need | undefined {
  return NEEDS[kind].find(({ command, arguments: names }) => {
    const has = schema.get(command);
    return has === undefined || names.some((name) => !has.has(name));
  });
}

/**
 * Whether a mirror skips the zeroes of the source if its target reads as zeroes. It does since QEMU has that argument
 * (10.1). Assumed of a QEMU whose schema is not known.
 */
export function leavesZeroesOut(schema: Schema | undefined): boolean {
  return schema?.get('blockdev-mirror')?.has('target-is-zero') ?? true;
}

/** Whether QEMU can limit how long it waits for an NBD server when it opens the export (7.0). */
export function boundsNbdOpen(schema: Schema | undefined): boolean {
  return schema?.get('blockdev-add nbd')?.has('open-timeout') ?? false;
}

/** Whether QEMU can compare two nodes. Some vendors leave that driver out. Assumed of a QEMU whose schema is not known. */
export function canCompare(schema: Schema | undefined): boolean {
  return schema?.has('blockdev-add quorum') ?? true;
}

/** Whether QEMU can break a network connection that hangs (6.0). Assumed of a QEMU whose schema is not known. */
export function canYank(schema: Schema | undefined): boolean {
  return schema?.has('yank') ?? true;
}

/** Whether QEMU can change the write mode of a running mirror (8.2). Assumed of a QEMU whose schema is not known. */
export function canSwitchMode(schema: Schema | undefined): boolean {
  return schema?.has('block-job-change') ?? true;
}

/**
 * Whether QEMU can pull into partly written clusters (qcow2 with extended L2 entries). 5.2 and 7.2 abort when they try,
 * 10.0 does not. No feature in the schema shows it, so a command from between these versions (8.2) decides.
 */
export function pullsToSubclusters(schema: Schema | undefined): boolean {
  return schema?.has('block-job-change') ?? false;
}

/** The type names in the schema are arbitrary numbers; they only serve as links. */
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
