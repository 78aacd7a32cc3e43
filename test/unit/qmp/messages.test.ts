import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readMessage } from '../../../src/qmp/messages.ts';

const version = { qemu: { micro: 22, minor: 2, major: 7 }, package: 'Debian' };

describe('read', () => {
  it('reads a greeting and ignores members and capabilities that it does not know', () => {
    const message = { QMP: { version, capabilities: ['oob', 7, 'later'], more: 1 } };
    expect(readMessage(message)).toEqual({
      kind: 'greeting',
      greeting: { version, capabilities: ['oob', 'later'] },
    });
  });

  it('takes an old greeting without capabilities', () => {
    const message = { QMP: { version: { qemu: version.qemu } } };
    const expected = { version: { qemu: version.qemu, package: '' }, capabilities: [] };
    expect(readMessage(message)).toEqual({ kind: 'greeting', greeting: expected });
  });

  it('reads an event; without data it is empty, without a clock its time is undefined', () => {
    const timestamp = { seconds: 1, microseconds: 2 };
    expect(readMessage({ event: 'STOP', data: { a: 1 }, timestamp })).toEqual({
      kind: 'event',
      event: { event: 'STOP', data: { a: 1 }, timestamp },
    });
    expect(readMessage({ event: 'STOP', timestamp: { seconds: -1, microseconds: -1 } })).toEqual({
      kind: 'event',
      event: { event: 'STOP', data: {}, timestamp: undefined },
    });
  });

  it('reads answers with an id of any kind, and errors without one', () => {
    expect(readMessage({ return: null, id: { a: [1] } })).toEqual({ kind: 'return', id: { a: [1] }, value: null });
    const error = { class: 'GenericError', desc: 'no' };
    expect(readMessage({ error })).toEqual({ kind: 'error', id: undefined, qemuClass: 'GenericError', desc: 'no' });
  });

  it('cuts texts for logs and journals to the length of QEMU’s sentences', () => {
    const long = 'x'.repeat(1_000_000);
    const most = `${'x'.repeat(4096)}…`;
    expect(readMessage({ error: { class: long, desc: long } })).toMatchObject({
      qemuClass: most,
      desc: most,
    });
    expect(readMessage({ QMP: { version: { ...version, package: long } } })).toMatchObject({
      greeting: { version: { package: most } },
    });
  });

  it('calls everything else unknown and never throws', () => {
    for (const message of [null, 1, 'QMP', [], {}, { QMP: {} }, { QMP: null }, { event: 1 }, { error: 'no' }]) {
      expect(readMessage(message)).toEqual({ kind: 'unknown' });
    }
    fc.assert(fc.property(fc.jsonValue(), (message) => void readMessage(message)));
  });
});
