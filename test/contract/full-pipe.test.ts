/** `blockjobd serve` with output that nobody reads. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { lstat, open } from 'node:fs/promises';
import { credentials, status } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { DomainServiceClient, GetDomainRequest } from '../../generated/blockjob/v1/domain_service.ts';
import { eventually } from '../support/checks.ts';
import { run, testDir, within } from '../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../support/service/service.ts';

/** A full pipe without a reader. */
async function fullPipe(dir: string): Promise<{ fd: number } & AsyncDisposable> {
  const path = `${dir}/full`;
  await run('mkfifo', [path]);
  const held = await open(path, constants.O_RDWR | constants.O_NONBLOCK);
  const waiting = await open(path, constants.O_WRONLY);
  const isFull = async () => {
    try {
      await held.write('x'.repeat(4096));
      return false;
    } catch {
      return true;
    }
  };
  while (!(await isFull()));
  return {
    fd: waiting.fd,
    [Symbol.asyncDispose]: async () => {
      await waiting.close();
      await held.close();
    },
  };
}

const plain = (listen: string, dir: string) => [
  '--page=off',
  '--metrics=off',
  `--listen=${listen}`,
  `--state-dir=${dir}/state`,
  `--qmp=vm1=${dir}/qmp.sock`,
];
const start = (fd: number, args: readonly string[]) => {
  const stdio = ['ignore', fd, fd] as const;
  const child = spawn(process.execPath, ['src/main.ts', 'serve', ...args], { cwd: REPOSITORY, stdio: [...stdio] });
  return { child, exit: once(child, 'exit') };
};

describe('a full pipe for standard output and errors', () => {
  test('does not stop the service: it serves, and ends when a signal says so', async () => {
    await using dir = await testDir();
    await using pipe = await fullPipe(dir.path);
    const address = `unix:${dir.path}/api.sock`;
    const { child, exit } = start(pipe.fd, [...plain(address, dir.path), '--log-level', 'debug']);
    try {
      await eventually('its socket', async () => await lstat(`${dir.path}/api.sock`).catch(() => undefined));
      const client = new DomainServiceClient(address, credentials.createInsecure());
      using _ = { [Symbol.dispose]: () => client.close() };
      for (let n = 0; n < 50; n += 1) {
        const asked = new Promise((resolve) => {
          client.getDomain(GetDomainRequest.fromPartial({ domain: 'other' }), (error) => resolve(error));
        });
        expect(await asked).toMatchObject({ code: status.NOT_FOUND });
      }
      child.kill('SIGTERM');
      expect(await within(20_000, 'its end', exit)).toEqual([0, null]);
    } finally {
      child.kill('SIGKILL');
    }
  });

  test('does not keep a failed start from ending', async () => {
    await using dir = await testDir();
    await using pipe = await fullPipe(dir.path);
    const { child, exit } = start(pipe.fd, plain(`unix:${dir.path}/nowhere/api.sock`, dir.path));
    try {
      expect(await within(20_000, 'its end', exit)).toEqual([1, null]);
    } finally {
      child.kill('SIGKILL');
    }
  });
});
