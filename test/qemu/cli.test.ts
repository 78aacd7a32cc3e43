/** `blockjob` as people use it: a process, the real service, a real QEMU, and real shells. */
import { chmod, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DocPage } from '../support/doc-page.ts';
import { TcpProxy } from '../support/hostile/tcp-proxy.ts';
import { needs } from '../support/means.ts';
import { compareImages, makeChain, type Qemu, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { BLOCKJOB, blockjob, objectsIn, type Ran, RunningCommand, startBlockjob } from '../support/service/cli.ts';
import { Service, type ServiceOptions } from '../support/service/service.ts';

const MIB = 1024 * 1024;
const SLOWLY = ['--bandwidth', '64KiB'];

interface Bench extends AsyncDisposable {
  readonly dir: string;
  readonly qemu: Qemu;
  /** The last started service. */
  readonly service: Service;
  readonly base: string;
  readonly top: string;
  readonly dest: string;
  /** Runs a command against it. */
  run(...args: string[]): Promise<Ran>;
  start(...args: string[]): RunningCommand;
  /** The image that gets the guest's writes now. */
  guestImage(): Promise<string | undefined>;
  /** The service is killed, and started again at the same place. */
  restart(): Promise<void>;
}

/** A QEMU with a disk base ← top and one that is raw, and a service that knows it. */
async function bench(listen?: string): Promise<Bench> {
  await using resources = new AsyncDisposableStack();
  const dir = resources.use(await testDir('bj-cli-')).path;
  const chain = await makeChain(dir, { formats: ['qcow2', 'qcow2'], sizeBytes: 16 * MIB });
  const disks = [
    { id: 'vd0', bus: 'virtio-blk', chain },
    {
      id: 'vd1',
      bus: 'virtio-blk',
      chain: await makeChain(dir, { prefix: 'b', formats: ['raw'], sizeBytes: 8 * MIB }),
    },
  ] as const;
  const qemu = resources.use(await startQemu({ style: 'blockdev', name: 'web1', disks }));
  const where = listen === undefined ? {} : { listen };
  const options: ServiceOptions = { dir, qmp: { web1: qemu.qmpPath }, allow: [dir], ...where };
  let service = await Service.start(options);
  resources.defer(async () => await service[Symbol.asyncDispose]());
  await service.domainUp('web1');
  const kept = resources.move();
  const at = (args: readonly string[]) => ['--address', service.address, ...args];
  return {
    dir,
    qemu,
    get service() {
      return service;
    },
    base: chain[0]?.path ?? '',
    top: chain[1]?.path ?? '',
    dest: join(dir, 'copy.qcow2'),
    run: async (...args) => await blockjob(at(args)),
    start: (...args) => startBlockjob(at(args)),
    guestImage: async () => (await service.getDomain('web1')).disks[0]?.path,
    restart: async () => {
      await service.kill();
      service = await Service.start(options);
    },
    [Symbol.asyncDispose]: async () => await kept.disposeAsync(),
  };
}

/** The id in the output of a start. */
function jobIn({ stdout, stderr }: Pick<Ran, 'stdout' | 'stderr'>): string {
  return /started, job (\S+)/.exec(stdout + stderr)?.[1] ?? 'none';
}

describe.skipIf(needs('qemu'))('blockjob', () => {
  test('copy --wait --verbose --pivot ends with the image of the guest, and the files that may be deleted', async () => {
    await using it = await bench();
    const { code, stdout, stderr } = await it.run('copy', 'web1', 'vd0', it.dest, '--wait', '--verbose', '--pivot');
    expect(code).toBe(0);
    expect(stdout).toContain('web1/vd0: Successfully pivoted');
    expect(stdout).toContain(`The guest runs on ${it.dest}`);
    expect(stdout).toContain(`Start the VM next time with ${it.dest}`);
    expect(stdout).toContain(`Safe to delete: ${it.top}`);
    expect(stderr).toContain('Block copy started, job ');
    expect(stderr).toMatch(/^\d\d:\d\d:\d\d {2}web1\/vd0 {2}COMPLETED/m);
    expect(await it.guestImage()).toBe(it.dest);
  });

  test('copy --finish leaves the guest where it is, with an equal copy', async () => {
    await using it = await bench();
    const { code, stdout } = await it.run('copy', 'web1', 'vd0', it.dest, '--finish', '--format', 'raw');
    expect(code).toBe(0);
    expect(stdout).toContain('Successfully copied');
    expect(stdout).toContain(`${it.dest} is a complete copy as of `);
    expect(await it.guestImage()).toBe(it.top);
    expect(await compareImages(it.top, 'qcow2', it.dest, 'raw', { live: true })).toMatchObject({ identical: true });
  });

  test('Ctrl-C ends the watching, not the job; the watch continues as the message says', async () => {
    await using it = await bench();
    const command = it.start('copy', 'web1', 'vd0', it.dest, '--wait', '--verbose', '--pivot', ...SLOWLY);
    await command.says(/RUNNING/, 'stderr');
    command.signal('SIGINT');
    const { code, stdout, stderr } = await command.end();
    expect(code).toBe(130);
    const again = /Watch it again: {2}blockjob (.*)/.exec(stdout)?.[1] ?? '';
    expect(again).toBe(`watch ${jobIn({ stdout, stderr })}`);
    expect((await it.run('info', 'web1', 'vd0')).stdout).toContain('State:       RUNNING');

    const watch = it.start(...again.split(' '));
    await watch.says(/RUNNING/, 'stderr');
    expect((await it.run('speed', 'web1', 'vd0', '0')).stdout).toBe('web1/vd0: speed limit none\n');
    const ended = await watch.end();
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain('Successfully pivoted');
    expect(await it.guestImage()).toBe(it.dest);
  });

  test('keeps waiting while the service is killed and started again', async () => {
    await using it = await bench();
    const command = it.start('copy', 'web1', 'vd0', it.dest, '--wait', '--verbose', '--pivot', ...SLOWLY);
    await command.says(/RUNNING/, 'stderr');
    await it.restart();
    await command.says(/the service is back/, 'stderr');
    await it.run('speed', 'web1', 'vd0', '0');
    const { code, stdout, stderr } = await command.end();
    expect(code).toBe(0);
    expect(stdout).toContain('Successfully pivoted');
    expect(stderr).toContain('the service does not answer');
  });

  test('a watch through two addresses continues at the second when the first is killed, each revision once', async () => {
    await using it = await bench('127.0.0.1:0');
    const port = Number(it.service.address.split(':').at(-1));
    await using first = await TcpProxy.to(port);
    await using second = await TcpProxy.to(port);
    const id = jobIn(await it.run('copy', 'web1', 'vd0', it.dest, ...SLOWLY));
    const at = [first, second].flatMap((line) => ['--address', `127.0.0.1:${line.port}`]);
    const watch = startBlockjob([...at, 'watch', id, '--output', 'json']);
    await watch.says(/KIND_SNAPSHOT/);
    await it.run('pause', id);
    await watch.says(/KIND_PAUSED/);
    first.cut();
    await it.run('resume', id);
    await it.run('speed', id, '0');
    await it.service.until(id, 'STATE_READY');
    expect((await it.run('pivot', id)).code).toBe(0);
    const { code, stdout, stderr } = await watch.end();
    expect(code).toBe(0);
    const events = objectsIn({ code, stdout, stderr }).flatMap(
      (line) => (line['event'] as { kind: string; revision: string } | undefined) ?? [],
    );
    const live = ['KIND_SNAPSHOT', 'KIND_PROGRESS', 'KIND_HEARTBEAT'];
    const from = Number(events[0]?.revision);
    const revisions = events.filter(({ kind }) => !live.includes(kind)).map(({ revision }) => Number(revision));
    const { revision: last } = await it.service.getInfo(id);
    expect(revisions).toEqual(Array.from({ length: Number(last) - from }, (_, index) => from + 1 + index));
  });

  test('shows bars on a terminal, one for each job, and restores the cursor', async () => {
    await using it = await bench();
    const line = `${process.execPath} ${BLOCKJOB} --address ${it.service.address} copy web1 vd0 ${it.dest} --verbose --pivot --bandwidth 512KiB`;
    const command = new RunningCommand('script', ['-qec', line, '/dev/null']);
    await command.says(/web1\/vd0 {2}█+░+ +\d+\.\d % {2}RUNNING/);
    await it.run('speed', 'web1', 'vd0', '0');
    const { code, stdout } = await command.end();
    expect(code).toBe(0);
    expect(stdout).toMatch(/web1\/vd0 {2}█{30} 100\.0 % {2}COMPLETED/);
    expect(stdout).toContain('Successfully pivoted');
    const ESC = String.fromCharCode(27);
    expect(stdout.lastIndexOf(`${ESC}[?25h`)).toBeGreaterThan(stdout.lastIndexOf(`${ESC}[?25l`));
  });

  test('copies several disks at once, with a bar each', async () => {
    await using it = await bench();
    const line = `${process.execPath} ${BLOCKJOB} --address ${it.service.address} copy web1 vd0 ${it.dest} vd1 ${it.dest}.raw --verbose --pivot --bandwidth 512KiB`;
    const command = new RunningCommand('script', ['-qec', line, '/dev/null']);
    // One bar below the other, for two running jobs.
    await command.says(/web1\/vd0 .* RUNNING.*\r?\n.*web1\/vd1 .* RUNNING/);
    for (const disk of ['vd0', 'vd1']) await it.run('speed', 'web1', disk, '0');
    const { code, stdout } = await command.end();
    expect(code).toBe(0);
    expect(stdout.match(/Successfully pivoted/g)).toHaveLength(2);
    const { disks } = await it.service.getDomain('web1');
    expect(disks.map(({ path }) => path)).toEqual([it.dest, `${it.dest}.raw`]);
  });

  test('server shows the service that answers', async () => {
    await using it = await bench();
    const { stdout } = await it.run('server');
    expect(stdout).toMatch(/^Version: .*\nMode: +serve\nHost: +host-under-test\n/);
  });

  test('--timeout cancels the job: 6, and nothing is left of the copy', async () => {
    await using it = await bench();
    const copied = await it.run('copy', 'web1', 'vd0', it.dest, '--timeout', '5', ...SLOWLY);
    expect(copied.code).toBe(6);
    expect(copied.stdout).toContain('has been removed');
    const pulled = await it.run('pull', 'web1', 'vd0', '--timeout', '1', ...SLOWLY);
    expect(pulled.code).toBe(6);
    expect(pulled.stdout).toContain('The time limit expired');
  });

  test('plan shows the steps and changes nothing; a start can be bound to it', async () => {
    await using it = await bench();
    const { code, stdout } = await it.run('plan', 'copy', 'web1', 'vd0', it.dest, '--pivot');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Block copy of web1\/vd0\n {2}from {2}/);
    expect(stdout).toContain('blockdev-mirror');
    expect((await it.run('jobs')).stdout).toBe('JOB  DISK  KIND  STATE  PROGRESS  DESTINATION\n');
    const etag = /--plan-etag (\S+)/.exec(stdout)?.[1] ?? '';
    const other = await it.run('copy', 'web1', 'vd0', it.dest, '--shallow', '--plan-etag', etag);
    expect(other.code).toBe(3);
    expect(other.stderr).toContain('PLAN_CHANGED');
    expect((await it.run('copy', 'web1', 'vd0', it.dest, '--pivot', '--plan-etag', etag)).code).toBe(0);
  });

  test('a refusal says why, and what to do next', async () => {
    await using it = await bench();
    await writeFile(it.dest, 'something');
    const exists = await it.run('copy', 'web1', 'vd0', it.dest);
    expect(exists.code).toBe(3);
    expect(exists.stderr).toContain('Next: name a new file, or add --reuse-external');
    const unknown = await it.run('copy', 'web1', 'vd7', '/x');
    expect(unknown.stderr).toContain('Next: blockjob disks web1');
    expect((await it.run('disks', 'web1')).stdout).toContain(`[1] ${it.base}`);
    const slow = await it.run('copy', 'web1', 'vd0', `${it.dest}.new`, ...SLOWLY);
    const id = jobIn(slow);
    const early = await it.run('pivot', id);
    expect(early).toMatchObject({ code: 3, stderr: expect.stringContaining(`blockjob watch ${id} --ready`) as string });
    expect(await it.run('check', 'web1', 'save')).toMatchObject({ code: 3 });
    expect((await it.run('abort', id)).stdout).toContain('has been removed');
    expect(await it.run('check', 'web1', 'save')).toMatchObject({ code: 0 });
  });

  test('commit --keep-overlay, commit --pivot, rebase --copy --pivot and pull, one after the other', async () => {
    await using it = await bench();
    const kept = await it.run('commit', 'web1', 'vd0', '--keep-overlay');
    expect([kept.code, await it.guestImage()]).toEqual([0, it.top]);
    const moved = await it.run('rebase', 'web1', 'vd0', it.dest, '--copy', '--shallow', '--pivot');
    expect([moved.code, await it.guestImage()]).toEqual([0, it.dest]);
    const committed = await it.run('commit', 'web1', 'vd0', '--pivot', '--verbose');
    expect([committed.code, await it.guestImage()]).toEqual([0, it.base]);
    expect(committed.stdout).toContain(`The guest runs on ${it.base}`);
    const copied = await it.run('copy', 'web1', 'vd0', `${it.dest}.2`, '--shallow', '--pivot');
    expect(copied.code).toBe(0);
    const pulled = await it.run('pull', 'web1', 'vd0', '--wait');
    expect(pulled.stdout).toMatch(/web1\/vd0: (Pull complete|Successfully)/);
    expect(pulled.code).toBe(0);
  });
});

/** `blockjob` by its name, for shells: returns the environment that contains it. */
async function installed(it: Bench): Promise<Record<string, string>> {
  await writeFile(join(it.dir, 'blockjob'), `#!/bin/sh\nexec ${process.execPath} ${BLOCKJOB} "$@"\n`);
  await chmod(join(it.dir, 'blockjob'), 0o755);
  const path = `${it.dir}${delimiter}${process.env['PATH'] ?? ''}`;
  return { PATH: path, HOME: it.dir, BLOCKJOB_ADDRESS: it.service.address };
}

test.skipIf(needs('qemu', 'by-hand'))('docs/cli.md: the jobs that run, for a program', async () => {
  await using it = await bench();
  const id = jobIn(await it.run('copy', 'web1', 'vd0', it.dest, ...SLOWLY));
  const line = /^ {4}(blockjob jobs .*jq .*)$/m.exec(new DocPage('cli.md').text)?.[1] ?? 'false';
  const { code, stdout } = await new RunningCommand('bash', ['-c', line], await installed(it)).end();
  expect(code).toBe(0);
  expect(stdout).toMatch(new RegExp(`^${id}\tSTATE_RUNNING\t[0-9.]*\n$`));
});

/** The answers of each shell to Tab after a line; each shell is asked in its own way. */
const SHELLS: readonly (readonly [string, (script: string, line: string) => readonly string[]])[] = [
  [
    'bash',
    (script, line) => [
      '--noprofile',
      '--norc',
      '-c',
      `source ${script}; COMP_WORDS=(${line} ""); [[ "${line}" == *" " ]] || unset 'COMP_WORDS[-1]'
       COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _blockjob; printf '%s\\n' "\${COMPREPLY[@]}"`,
    ],
  ],
  ['fish', (script, line) => ['--no-config', '-c', `source ${script}; complete --do-complete '${line}'`]],
];

describe.skipIf(needs('qemu', 'shells'))('completion', () => {
  test.each(SHELLS)(
    'in a real %s completes commands, options, choices, domains, disks and jobs',
    async (shell, ask) => {
      await using it = await bench();
      const script = join(it.dir, `completion.${shell}`);
      await writeFile(script, (await blockjob(['completion', shell])).stdout);
      const environment = await installed(it);
      const complete = async (line: string) => {
        const { stdout, stderr } = await new RunningCommand(shell, ask(script, line), environment).end();
        expect(stderr).toBe('');
        // fish sorts them.
        return new Set(stdout.split('\n').flatMap((one) => (one === '' ? [] : [one.split('\t')[0]])));
      };
      expect(await complete('blockjob c')).toEqual(new Set(['copy', 'commit', 'check', 'context', 'completion']));
      expect(await complete('blockjob copy --fo')).toEqual(new Set(['--format']));
      expect(await complete('blockjob copy --format ')).toEqual(new Set(['raw', 'qcow2']));
      expect(await complete('blockjob copy ')).toEqual(new Set(['web1']));
      expect(await complete('blockjob copy web1 ')).toEqual(new Set(['vd0', 'vd1']));
      const id = jobIn(await it.run('copy', 'web1', 'vd0', it.dest, ...SLOWLY));
      expect(await complete('blockjob watch b')).toEqual(new Set([id]));
      expect(await complete('blockjob plan ')).toEqual(new Set(['copy', 'pull', 'commit', 'rebase']));
    },
  );

  test('in a real zsh is loaded, and asks the command', async () => {
    await using it = await bench();
    const script = join(it.dir, '_blockjob');
    await writeFile(script, (await blockjob(['completion', 'zsh'])).stdout);
    const asks = `fpath=(${it.dir} $fpath); autoload -U compinit; compinit -u -d ${it.dir}/dump
      _describe() { print -l -- "\${(@P)2}" }
      words=(blockjob copy --fo); CURRENT=3
      autoload -U _blockjob; source ${script}
      (( $+functions[_blockjob] )) && _blockjob`;
    const { stdout } = await new RunningCommand('zsh', ['-f', '-c', asks], await installed(it)).end();
    expect(stdout).toBe('--format:the format of the destination\n');
  });
});
