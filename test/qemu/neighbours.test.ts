/** A folder of sockets holds more than monitors: the others stay free for their own clients. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { symlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { eventually, expectWell, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Qemu, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';

const GIVEN_UP = 'A socket is not the monitor of a VM, and is ignored';

function socketIn(folder: string, id: string): string[] {
  return ['-chardev', `socket,id=${id},path=${join(folder, id)},server=on,wait=off`];
}

const NEIGHBOURS = ['qga', 'console', 'hmp'];

/** As in many VMs: the guest's agent, its console and a monitor for people. */
function neighboursIn(folder: string): string[] {
  const sockets = NEIGHBOURS.flatMap((id) => socketIn(folder, id));
  const agent = 'virtio-serial -device virtserialport,chardev=qga,name=org.qemu.guest_agent.0';
  return [...sockets, ...`-device ${agent} -serial chardev:console -mon chardev=hmp,mode=readline`.split(' ')];
}

function monitor(folder: string, more = ''): string[] {
  return [...socketIn(folder, 'vm.qmp'), '-mon', `chardev=vm.qmp,mode=control${more}`];
}

/** The chardevs that have a client. */
async function heldIn(qemu: Qemu): Promise<readonly string[]> {
  const found = await qemu.admin.execute<{ label: string; filename: string }[]>('query-chardev');
  return found.filter(({ filename }) => !filename.startsWith('disconnected')).map(({ label }) => label);
}

/** The log lines about sockets that the service leaves alone. */
function givenUp(service: Service): readonly { readonly qmp: string; readonly retryInMs: number }[] {
  const lines = service.log.split('\n').filter((line) => line.includes(GIVEN_UP));
  return lines.map((line) => JSON.parse(line));
}

async function names(service: Service): Promise<readonly string[]> {
  return (await service.listDomains()).map(({ name }) => name);
}

/** The longest time without a break in which each chardev had a client, until `done`. */
async function longestHeld(qemu: Qemu, done: () => boolean): Promise<ReadonlyMap<string, number>> {
  const since = new Map<string, number>();
  const longest = new Map<string, number>();
  while (!done()) {
    const held = await heldIn(qemu);
    const now = performance.now();
    for (const label of NEIGHBOURS) {
      if (!held.includes(label)) since.delete(label);
      else if (!since.has(label)) since.set(label, now);
      longest.set(label, Math.max(longest.get(label) ?? 0, now - (since.get(label) ?? now)));
    }
  }
  return longest;
}

describe.skipIf(needs('qemu'))('a folder of sockets', () => {
  test('a program that is not a monitor is held for a second, then left alone for minutes, and is not a domain', async () => {
    await using dir = await testDir();
    await using sockets = await testDir('bj-qmp-');
    const extraArgs = [...neighboursIn(sockets.path), ...monitor(sockets.path)];
    await using qemu = await startQemu({ style: 'blockdev', name: 'web1', disks: [], extraArgs });
    await using service = await Service.start({ dir: dir.path, qmpDir: sockets.path, allow: [] });
    const held = await longestHeld(qemu, () => givenUp(service).length === NEIGHBOURS.length);
    // Seconds on a busy machine, of which it gets some late.
    for (const label of NEIGHBOURS) expect(held.get(label), label).toBeLessThan(10_000);
    // If the service left it alone for a shorter time, it would be held again and again.
    for (const { retryInMs } of givenUp(service)) expect(retryInMs).toBeGreaterThanOrEqual(150_000);
    await service.domainUp('web1');
    expect(await names(service)).toEqual(['web1']);
    await eventually('QEMU has heard that they are left', async () => {
      const labels = await heldIn(qemu);
      return !NEIGHBOURS.some((label) => labels.includes(label)) || undefined;
    });
    expectWell(service);
  });

  test('a client that comes while the service uses a socket gets through within seconds', async () => {
    await using dir = await testDir();
    await using sockets = await testDir('bj-qmp-');
    const extraArgs = [...neighboursIn(sockets.path), ...monitor(sockets.path)];
    await using qemu = await startQemu({ style: 'blockdev', name: 'web1', disks: [], extraArgs });
    await using service = await Service.start({ dir: dir.path, qmpDir: sockets.path, allow: [] });
    await eventually('the service has the socket', async () => (await heldIn(qemu)).includes('qga') || undefined);
    const client = connect(join(sockets.path, 'qga'));
    try {
      await once(client, 'connect');
      const isLeft = () => givenUp(service).find(({ qmp }) => qmp.endsWith('/qga'));
      const left = await eventually('the service leaves it', isLeft);
      expect(left.retryInMs).toBeGreaterThanOrEqual(150_000);
      await eventually('the client has it', async () => (await heldIn(qemu)).includes('qga') || undefined);
    } finally {
      client.destroy();
    }
    await eventually('nobody has it', async () => !(await heldIn(qemu)).includes('qga') || undefined);
  });

  test('a monitor whose name was another socket before is found at once', async () => {
    await using dir = await testDir();
    await using sockets = await testDir('bj-qmp-');
    await using service = await Service.start({ dir: dir.path, qmpDir: sockets.path, allow: [] });
    {
      const extraArgs = [...socketIn(sockets.path, 'vm.qmp'), '-serial', 'chardev:vm.qmp'];
      await using _before = await startQemu({ style: 'blockdev', name: 'before', disks: [], extraArgs });
      await eventually('it is given up', () => givenUp(service).length === 1 || undefined);
    }
    const extraArgs = monitor(sockets.path);
    await using _after = await startQemu({ style: 'blockdev', name: 'after', disks: [], extraArgs });
    await service.domainUp('after');
    expect(await names(service)).toEqual(['after']);
  });

  test('with a pattern only matching sockets are asked', async () => {
    await using dir = await testDir();
    await using sockets = await testDir('bj-qmp-');
    const extraArgs = [...neighboursIn(sockets.path), ...monitor(sockets.path)];
    await using _qemu = await startQemu({ style: 'blockdev', name: 'web1', disks: [], extraArgs });
    const args = ['--qmp-pattern', '*.qmp'];
    await using service = await Service.start({ dir: dir.path, qmpDir: sockets.path, allow: [], args });
    await service.domainUp('web1');
    expect(await names(service)).toEqual(['web1']);
    for (const label of NEIGHBOURS) expect(service.log).not.toContain(join(sockets.path, label));
  });

  test('a monitor that answers over several lines is understood', async () => {
    await using dir = await testDir();
    await using sockets = await testDir('bj-qmp-');
    const extraArgs = monitor(sockets.path, ',pretty=on');
    const disks = [{ id: 'cd0', empty: true }] as const;
    await using qemu = await startQemu({ style: 'blockdev', name: 'pretty', disks, extraArgs });
    await using service = await Service.start({ dir: dir.path, qmpDir: sockets.path, allow: [] });
    await service.domainUp('pretty');
    await qemu.admin.execute('stop');
    expect((await service.getDomain('pretty')).disks.map(({ name }) => name)).toEqual(['cd0']);
    expectWell(service);
  });

  test('a link to a socket is followed, and a second name of a socket is not a second domain', async () => {
    await using dir = await testDir();
    await using sockets = await testDir('bj-qmp-');
    await using elsewhere = await testDir('bj-elsewhere-');
    await using qemu = await startQemu({
      style: 'blockdev',
      name: 'far',
      disks: [],
      extraArgs: monitor(elsewhere.path),
    });
    for (const name of ['a', 'b']) await symlink(join(elsewhere.path, 'vm.qmp'), join(sockets.path, name));
    await symlink(join(elsewhere.path, 'nothing'), join(sockets.path, 'c'));
    await using service = await Service.start({ dir: dir.path, qmpDir: sockets.path, allow: [] });
    await service.domainUp('far');
    expect(await names(service)).toEqual(['far']);
    expect(await service.getDomain('far')).toMatchObject({ qemuPid: qemu.pid });
  });

  test('a storage daemon speaks QMP, and is left alone', async () => {
    await using dir = await testDir();
    await using sockets = await testDir('bj-qmp-');
    await using service = await Service.start({ dir: dir.path, qmpDir: sockets.path, allow: [] });
    const chardev = `socket,path=${join(sockets.path, 'qsd')},server=on,wait=off,id=c`;
    const child = spawn('qemu-storage-daemon', ['--chardev', chardev, '--monitor', 'chardev=c'], { stdio: 'ignore' });
    const exited = once(child, 'exit');
    try {
      await eventually('it is given up', () => givenUp(service).length === 1 || undefined);
      expect(present(givenUp(service)[0]).retryInMs).toBeGreaterThanOrEqual(150_000);
      expect(await names(service)).toEqual([]);
    } finally {
      child.kill();
      await exited;
    }
  });
});
