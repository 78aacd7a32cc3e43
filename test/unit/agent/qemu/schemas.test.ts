/** A version of QEMU is asked once for its features, however many VMs run it. */
import { describe, expect, it } from 'vitest';
import { Schemas } from '../../../../src/agent/qemu/schemas.ts';
import { BlockJobError } from '../../../../src/core/errors.ts';
import { NotSent, Refused } from '../../../../src/qmp/errors.ts';

const command = (name: string, ...members: string[]) => [
  { name, 'meta-type': 'command', 'arg-type': `of ${name}`, 'ret-type': '0' },
  { name: `of ${name}`, 'meta-type': 'object', members: members.map((member) => ({ name: member, type: 'str' })) },
];
const STREAM = ['base-node', 'backing-file', 'auto-finalize', 'auto-dismiss'];
const COMMON = [...command('x-debug-query-block-graph'), ...command('job-dismiss', 'id')];
const NEW = [...COMMON, ...command('query-named-block-nodes', 'flat'), ...command('block-stream', ...STREAM)];
const OLD = [...COMMON, ...command('query-named-block-nodes'), ...command('block-stream', ...STREAM)];

/** A QEMU that gets only these questions. */
function qemu(...answers: readonly unknown[]) {
  const asked: string[] = [];
  const left = [...answers];
  return {
    name: 'vm1',
    asked,
    execute: async ({ execute }: { readonly execute: string }) => {
      asked.push(execute);
      const answer = left.shift();
      if (answer instanceof Error) throw answer;
      return await Promise.resolve(answer);
    },
  };
}

describe('schemas', () => {
  it('are requested once for each version, by however many VMs at once', async () => {
    const [schemas, one, two] = [new Schemas(), qemu(NEW), qemu()];
    const version = { qemuVersion: '7.2.22 (Debian)' };
    await Promise.all([schemas.require('PULL', one, version), schemas.require('PULL', two, version)]);
    await schemas.require('PULL', two, version);
    expect([one.asked, two.asked]).toEqual([['query-qmp-schema'], []]);
    const other = qemu(NEW);
    await schemas.require('PULL', other, { qemuVersion: '7.2.22 (other)' });
    expect(other.asked).toHaveLength(1);
  });

  it('a QEMU that lacks a feature is too old, and the version that has it is named', async () => {
    const error = await new Schemas().require('PULL', qemu(OLD), { qemuVersion: '4.2.1' }).catch((why: unknown) => why);
    expect(error).toBeInstanceOf(BlockJobError);
    expect(error).toMatchObject({
      reason: 'QEMU_TOO_OLD',
      message: expect.stringContaining('query-named-block-nodes flat') as string,
      failure: { metadata: { version: '4.2.1', domain: 'vm1', since: '5.0' } },
    });
  });

  it('one that does not say is not refused; one that could not be asked is asked again', async () => {
    const schemas = new Schemas();
    const refusing = qemu(new Refused('query-qmp-schema', 'CommandNotFound', 'not found'));
    await expect(schemas.require('COPY', refusing, { qemuVersion: 'silent' })).resolves.toBeUndefined();
    const away = qemu(new NotSent('query-qmp-schema', 'away'), OLD);
    await expect(schemas.require('PULL', away, { qemuVersion: 'x' })).rejects.toThrow(NotSent);
    await expect(schemas.require('PULL', away, { qemuVersion: 'x' })).rejects.toThrow('QEMU_TOO_OLD');
    expect(away.asked).toHaveLength(2);
  });
});
