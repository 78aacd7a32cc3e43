/**
 * One dialect, as docs/contributing.md describes it: rules that a linter cannot check, read from the sources
 * themselves.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const SRC = join(import.meta.dirname, '../../src');

/** The exported declarations of a file; an export from another file is declared in that file. */
const EXPORTED = /^export (?:abstract )?(?:async )?(?:function\*?|class|const|let|interface|type) (\w+)/gm;

const PACKED = 'src/client is packed alone';
const ETCD = 'src/fleet/etcd could be a package of its own, and so could the other';

/** The same declaration in two places, for a package that stands alone. */
const TWINS: Readonly<Record<string, string>> = {
  BlockJobError: `${PACKED}: the error of a call`,
  CallOptions: `${PACKED}: how long one call may take, and what ends it`,
  Code: `${PACKED}: the codes of gRPC`,
  Endpoint: `${PACKED}: one address of the service, or of etcd`,
  Endpoints: `${PACKED}: several, of which the one that answers is used`,
  OutcomeUnknown: `${ETCD}: QEMU or etcd may have done it`,
  Reason: `${PACKED}: the reasons of the contract`,
  Refused: `${ETCD}: QEMU or etcd said no, and nothing changed`,
  Started: `${PACKED}: the answer of a call that starts a job`,
  dateAt: `${PACKED}: a moment of this process's clock, as a date`,
  fromMs: `${PACKED}: a duration of Protocol Buffers`,
  hasEnded: `${PACKED}: a job in a state that it does not leave`,
  isServiceError: `${PACKED}: an error as gRPC reports it`,
  retryInMs: `${ETCD}: when to try again after so many failures`,
  toMs: `${PACKED}: a duration of Protocol Buffers`,
};

interface Source {
  readonly file: string;
  readonly text: string;
}

const sources = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((file): Source => ({ file, text: readFileSync(join(SRC, file), 'utf8') }));

/** Each match of a pattern, with its place. */
const found = (pattern: RegExp, among: readonly Source[] = sources) =>
  among.flatMap(({ file, text }) => [...text.matchAll(pattern)].map(([, name = '']) => `${file}: ${name}`));

describe('the names that files of src export', () => {
  it('are exported by one file each, except twins of code that stands alone', () => {
    const names = sources.flatMap(({ text }) => [
      // An overloaded function is declared more than once.
      ...new Set(text.matchAll(EXPORTED).map(([, name = '']) => name)),
    ]);
    expect(names.length).toBeGreaterThan(500);
    const twice = [...new Set(names.filter((name, at) => names.indexOf(name) !== at))];
    expect(twice.toSorted()).toEqual(Object.keys(TWINS).toSorted());
  });
});

/** The field that distinguishes the members of a union: everywhere a verb of one table, or a word of QEMU's. */
const DISCRIMINANTS = new Set('is kind entry do does move execute driver type format'.split(' '));
/** Whether its QEMU is reachable, for a seen job; and whether a destination is new, for an opened one. */
const OF_ONE_TYPE = new Set(['core/moves/moves.ts: qemu', 'core/plans/copy-ends.ts: new']);

describe('the sources', () => {
  it('begin with the purpose of the file', () => {
    const heads = sources.map(({ file, text }) => ({ file, head: text.replace(/^#!.*\n/, '') }));
    expect(heads.filter(({ head }) => !/^\/[*/]/.test(head)).map(({ file }) => file)).toEqual([]);
  });

  it('distinguish the members of a union by few names', () => {
    const all = found(/^\s*\| \{ (?:readonly )?(\w+): '/gm);
    expect(all.length).toBeGreaterThan(50);
    expect(all.filter((one) => !DISCRIMINANTS.has(one.split(' ')[1] ?? '') && !OF_ONE_TYPE.has(one))).toEqual([]);
  });

  it('write the constants of a file in capitals, with their units', () => {
    expect(found(/^(?:export )?const ([a-z]\w*) = -?[\d"'`[{]/gm).filter((one) => !ONE_TABLE.has(one))).toEqual([]);
    expect(found(/\b([A-Z_]*(?:TIMEOUT|DELAY|INTERVAL|PERIOD|PATIENCE|SIZE)) = \d/g)).toEqual([]);
  });

  it('call a Logger logger if log is that of a job, which is in src/agent', () => {
    const [agent, others] = [sources.filter(isOfAgent), sources.filter((one) => !isOfAgent(one))];
    expect(found(/(?<!\.)\b(log\??: Logger)\b/g, agent)).toEqual([]);
    expect(found(/(?<!\.)\b(logger\??: Logger)\b/g, others)).toEqual([]);
  });
});

/** Each is the one table of its file, or a part of it. */
const ONE_TABLE = new Set([
  'core/catalogue.ts: catalogue',
  'core/disk/kinds.ts: readable',
  'core/disk/kinds.ts: shared',
  'core/disk/kinds.ts: notHere',
]);

function isOfAgent({ file }: Source): boolean {
  return file.startsWith('agent/');
}
