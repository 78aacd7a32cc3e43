import { describe, expect, it } from 'vitest';
import { ConnectFailed, Disconnected, NotSent, OutcomeUnknown, QmpError, Refused } from '../../../src/qmp/errors.ts';

describe('ConnectFailed', () => {
  it.each([
    ['ENOENT', 'absent'],
    ['ECONNREFUSED', 'refused'],
    ['EACCES', 'denied'],
    ['EPERM', 'denied'],
    ['EAGAIN', 'busy'],
    ['EINVAL', 'failed'],
    [undefined, 'failed'],
  ] as const)('tells what %s of connect means: %s', (code, why) => {
    const cause = Object.assign(new Error('connect'), code === undefined ? {} : { code });
    expect(ConnectFailed.from('/run/vm.sock', cause)).toMatchObject({ why, path: '/run/vm.sock', cause });
  });

  it('says what to do when the socket is busy', () => {
    expect(new ConnectFailed('/run/vm.sock', 'busy').message).toBe(
      '/run/vm.sock: another client holds this QMP socket, or QEMU does not run; give the agent a monitor of its own',
    );
  });
});

it('every error is a QmpError and carries its name', () => {
  const errors = {
    ConnectFailed: new ConnectFailed('/s', 'failed'),
    Disconnected: new Disconnected('ended'),
    NotSent: new NotSent('stop', 'no connection'),
    OutcomeUnknown: new OutcomeUnknown('stop', 'timeout'),
    Refused: new Refused('stop', 'GenericError', 'no'),
  };
  for (const [name, error] of Object.entries(errors)) {
    expect(error).toBeInstanceOf(QmpError);
    expect(error.name).toBe(name);
  }
});
