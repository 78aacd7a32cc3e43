/** The features of QEMUs, by their own schemas: recorded from Debian's 5.2.0, 7.2.22, 10.0.13 and 11.1.3. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import * as features from '../../../../src/core/qemu/features.ts';

const VERSIONS = ['5.2', '7.2', '10.0', '11.1'];
const KINDS = ['COPY', 'PULL', 'COMMIT', 'ACTIVE_COMMIT'] as const;

const { boundsNbdOpen, missing, readSchema } = features;
type Schema = features.Schema;

/** The questions to a schema, and the recorded versions that have the feature. */
const HAVE: Readonly<Record<string, readonly string[]>> = {
  leavesZeroesOut: ['11.1'],
  boundsNbdOpen: ['7.2', '10.0', '11.1'],
  canCompare: VERSIONS,
  canYank: ['7.2', '10.0', '11.1'],
  canSwitchMode: ['10.0', '11.1'],
  pullsToSubclusters: ['10.0', '11.1'],
};

function schemaOf(version: string): Schema {
  const bytes = gunzipSync(readFileSync(join(import.meta.dirname, 'schemas', `${version}.json.gz`)));
  const recorded = JSON.parse(bytes.toString()) as unknown;
  return readSchema(Array.isArray(recorded) ? recorded : Reflect.get(Object(recorded), 'return'));
}

function without(schema: Schema, command: string, argument?: string): Schema {
  const names = new Set(schema.get(command));
  if (argument !== undefined) names.delete(argument);
  return new Map(
    [...schema].flatMap(([name, has]) =>
      name !== command ? [[name, has]] : argument === undefined ? [] : [[name, names]],
    ),
  );
}

describe('features of a QEMU', () => {
  it.each(VERSIONS.flatMap((version) => KINDS.map((kind) => ({ version, kind }))))(
    '$version can do $kind',
    ({ version, kind }) => {
      expect(missing(schemaOf(version), kind)).toBeUndefined();
    },
  );

  it('are each known by a command or an argument, which these versions have', () => {
    const { missing: _missing, readSchema: _readSchema, ...questions } = features;
    const has = Object.entries(questions).map(([name, asks]) => [
      name,
      VERSIONS.filter((version) => asks(schemaOf(version))),
    ]);
    expect(Object.fromEntries(has)).toEqual(HAVE);
  });

  it('one without the driver quorum cannot compare', () => {
    expect(features.canCompare(without(schemaOf('7.2'), 'blockdev-add quorum'))).toBe(false);
  });

  it('commands and their arguments are as QEMU says', () => {
    const schema = schemaOf('7.2');
    expect(schema.get('job-dismiss')).toEqual(new Set(['id']));
    expect(schema.get('query-jobs')).toEqual(new Set());
    expect(schema.get('block-stream')).toContain('bottom');
    expect(schemaOf('5.2').get('block-stream')).not.toContain('bottom');
    expect(schema.has('no-such-command')).toBe(false);
  });

  it('the case nbd of blockdev-add shows whether QEMU limits its wait for an NBD server', () => {
    expect(VERSIONS.map((version) => boundsNbdOpen(schemaOf(version)))).toEqual([false, true, true, true]);
    expect(schemaOf('7.2').get('blockdev-add file')).not.toContain('open-timeout');
    expect(boundsNbdOpen(undefined)).toBe(false);
  });

  it('a QEMU without a command, or without one argument of it, is too old, and the error names the version that has it', () => {
    const schema = schemaOf('7.2');
    expect(missing(without(schema, 'query-named-block-nodes', 'flat'), 'PULL')).toMatchObject({ since: '5.0' });
    expect(missing(without(schema, 'blockdev-mirror', 'copy-mode'), 'COPY')).toMatchObject({ since: '3.0' });
    expect(missing(without(schema, 'block-commit', 'base-node'), 'COMMIT')).toMatchObject({ command: 'block-commit' });
    expect(missing(without(schema, 'block-stream'), 'PULL')).toMatchObject({ command: 'block-stream' });
    expect(missing(without(schema, 'block-stream'), 'COPY')).toBeUndefined();
  });
});
