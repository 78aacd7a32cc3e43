import { describe, expect, it } from 'vitest';
import { readBlockDevices, readGraph, readNodes } from '../../../src/core/qemu/block-replies.ts';
import {
  readBlockJobs,
  readJobs,
  readName,
  readRunState,
  readUuid,
  UnexpectedReply,
} from '../../../src/core/qemu/replies.ts';

describe("QEMU's replies", () => {
  it('have jobs with an error only when they ended with one', () => {
    expect(
      readJobs([
        { id: 'a', type: 'mirror', status: 'ready', 'current-progress': 5, 'total-progress': 5 },
        { id: 'b', type: 'mirror', status: 'concluded', error: 'No space left on device', later: {} },
      ]),
    ).toEqual([
      { id: 'a', type: 'mirror', status: 'ready', error: undefined, currentBytes: 5, endBytes: 5 },
      {
        id: 'b',
        type: 'mirror',
        status: 'concluded',
        error: 'No space left on device',
        currentBytes: 0,
        endBytes: 0,
      },
    ]);
  });

  it('have block jobs, and "ok" if there is no I/O status', () => {
    const jobs = [
      { device: 'a', status: 'running', 'io-status': 'nospace', paused: true, offset: 1, len: 2, speed: 3 },
      { device: 'b' },
    ];
    expect(readBlockJobs(jobs)).toEqual([
      {
        id: 'a',
        status: 'running',
        ioStatus: 'nospace',
        paused: true,
        offsetBytes: 1,
        lengthBytes: 2,
        speedBytesPerSecond: 3,
      },
      {
        id: 'b',
        status: 'undefined',
        ioStatus: 'ok',
        paused: false,
        offsetBytes: 0,
        lengthBytes: 0,
        speedBytesPerSecond: 0,
      },
    ]);
  });

  it('name a VM, or do not; a UUID of zeroes is not a name', () => {
    expect(readName({ name: 'vm1' })).toBe('vm1');
    expect(readName({})).toBeUndefined();
    expect(readUuid({ UUID: '00000000-0000-0000-0000-000000000000' })).toBeUndefined();
    expect(readUuid({ UUID: '00000000-0000-0000-0000-000000000001' })).toBe('00000000-0000-0000-0000-000000000001');
    expect(readRunState({ status: 'io-error', running: false })).toBe('io-error');
  });

  it.each<[string, (reply: unknown) => unknown, unknown]>([
    ['a list of jobs', readJobs, {}],
    ['a job without an id', readJobs, [{ status: 'ready' }]],
    ['a job without a status', readJobs, [{ id: 'a' }]],
    ['a block job without a device', readBlockJobs, [{}]],
    ['no list of devices', readBlockDevices, null],
    ['a device that is not an object', readBlockDevices, ['ide0']],
    ['a node without a name', readNodes, [{ drv: 'raw', image: {} }]],
    ['a node without an image', readNodes, [{ 'node-name': 'a' }]],
    ['a graph without edges', readGraph, { nodes: [] }],
    ['a text that is not a status', readRunState, { running: true }],
  ])('that nobody documented are distinguished from all others: %s', (_what, read, reply) => {
    expect(() => read(reply)).toThrow(UnexpectedReply);
  });
});
