/**
 * docs/cli.md and docs/from-virsh.md: each row about virsh is executed here, and the other rows are compared with the
 * command.
 */
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { EXIT } from '../../../src/cli/exit.ts';
import { programIn } from '../../../src/cli/program.ts';
import { Interrupted } from '../../../src/cli/terminal.ts';
import { DocPage } from '../../support/doc-page.ts';
import { objectsIn } from '../../support/service/cli.ts';
import { StubService } from '../../support/service/stub-service.ts';
import { DESTINATION, JOB } from '../core/stories.ts';

const page = new DocPage('cli.md');
const fromVirsh = new DocPage('from-virsh.md');
const DISK = { domain: 'vm1', disk: 'vd0' };

const program = programIn(
  { environment: {}, stdout: process.stdout, stderr: process.stderr, signal: new AbortController().signal },
  () => undefined,
);

/** The check of a row. */
type Held = (service: StubService) => Promise<void>;

/** The command line asks this. */
function asks(line: string, method: string, request: object): Held {
  return async (service) => {
    const { code } = await service.run(line.split(' '));
    expect(code).toBe(0);
    expect(service.request(method)).toMatchObject(request);
  };
}

/** It waits, and ends with success. */
function waits(line: string, kind: 'COPY' | 'PULL' | 'COMMIT', ...course: StubService['course']): Held {
  return async (service) => {
    service.kind = kind;
    service.course = ['RUNNING', ...course];
    const { code, stdout } = await service.run(line.split(' '));
    expect(code).toBe(0);
    expect(stdout).toMatch(/Successfully|complete|mirroring/);
    expect(service.request('watch')).toBeDefined();
  };
}

/** It shows its progress. */
function shows(line: string, kind: 'COPY' | 'PULL' | 'COMMIT'): Held {
  return async (service) => {
    service.kind = kind;
    service.course = ['RUNNING', 'COMPLETED'];
    expect((await service.run(line.split(' '))).stderr).toContain('RUNNING  50.0 %');
    expect(
      (
        await new StubService().run(
          line
            .replace(/--wait.*/, '')
            .trim()
            .split(' '),
        )
      ).stderr,
    ).not.toContain('50.0 %');
  };
}

/** It requests the end when its time is over; with --async it does not wait for that end. */
function bounds(line: string, kind: 'PULL' | 'COMMIT'): Held {
  return async (service) => {
    service.kind = kind;
    const { code } = await service.run(line.split(' '));
    expect(code).toBe(EXIT.timedOut);
    expect(service.request('abort')).toMatchObject({ pivot: false, job: { jobId: JOB } });
  };
}

/** It leaves at CANCELLING, if nobody ends it. */
function leaves(line: string, kind: 'COPY' | 'PULL' | 'COMMIT'): Held {
  return async (service) => {
    service.kind = kind;
    // The service itself limits the time of a copy.
    service.course = kind === 'COPY' ? ['RUNNING', 'CANCELLING'] : ['RUNNING'];
    const { code, stdout } = await service.run(line.split(' '));
    expect(code).toBe(EXIT.timedOut);
    expect(stdout).toContain('continues');
  };
}

/** At READY this command does its own part. */
function ends(line: string, pivot: boolean): Held {
  return async (service) => {
    service.kind = 'ACTIVE_COMMIT';
    service.course = ['RUNNING', 'READY'];
    const { code } = await service.run(line.split(' '));
    expect(code).toBe(0);
    expect(service.request('commit')).toMatchObject({ flags: ['ACTIVE', 'BANDWIDTH_BYTES'] });
    expect(service.request('abort')).toMatchObject({ pivot, job: { jobId: JOB } });
  };
}

const copy = `copy vm1 vd0 ${DESTINATION}`;
const file = { kind: 'file', path: DESTINATION };

const COPY: Readonly<Record<string, Held>> = {
  'domain, path': asks(copy, 'startCopy', { disk: DISK }),
  '--dest': asks(`blockcopy vm1 vd0 --dest ${DESTINATION}`, 'startCopy', { disk: DISK, destination: file }),
  '--bandwidth': async (service) => {
    await asks(`${copy} --bandwidth 100`, 'startCopy', { bandwidthBytesPerSecond: 100n << 20n })(service);
    await asks(`${copy} --bandwidth 1.5GiB`, 'startCopy', { bandwidthBytesPerSecond: 3n << 29n })(service);
  },
  '--bytes': asks(`${copy} --bandwidth 100 --bytes`, 'startCopy', { bandwidthBytesPerSecond: 100n }),
  '--shallow': asks(`${copy} --shallow --relative`, 'startCopy', { shallow: true, relativeBacking: true }),
  '--reuse-external': asks(`${copy} --reuse-external`, 'startCopy', { reuseExternal: true }),
  '--blockdev': asks('copy vm1 vd0 /dev/vg/x --blockdev', 'startCopy', {
    destination: { kind: 'block-device', path: '/dev/vg/x' },
  }),
  '--format': asks(`${copy} --format qcow2`, 'startCopy', { format: 'QCOW2' }),
  '--raw (older)': asks(`${copy} --raw`, 'startCopy', { format: 'RAW' }),
  '--granularity': asks(`${copy} --granularity 64KiB`, 'startCopy', { granularityBytes: 65_536n }),
  '--buf-size': asks(`${copy} --buf-size 1048576`, 'startCopy', { bufferBytes: 1_048_576n }),
  '--synchronous-writes': asks(`${copy} --synchronous-writes`, 'startCopy', { writeMode: 'BLOCKING' }),
  '--transient-job': asks(`${copy} --transient-job`, 'startCopy', { disk: DISK }),
  '--xml': async (service) => {
    const nbd = { exportName: 'e', tlsCredentialsId: 'tls0', tlsHostname: '' };
    await asks('copy vm1 vd0 nbd://h:10810/e --nbd-tls-creds tls0', 'startCopy', {
      destination: { kind: 'nbd', nbd: { ...nbd, server: { kind: 'tcp', host: 'h', port: 10_810 } } },
    })(service);
    await asks(`${copy} --encryption-secret s0`, 'startCopy', { encryption: { secretId: 's0' } })(service);
    await asks('copy vm1 vd0 nbd+unix:///e?socket=/run/n.sock', 'startCopy', {
      destination: { kind: 'nbd', nbd: { server: { kind: 'unix', path: '/run/n.sock' } } },
    })(service);
  },
  '--print-xml': asks(`plan ${copy} --shallow`, 'startCopy', { validateOnly: true, shallow: true }),
  '--wait': waits(`${copy} --wait`, 'COPY', 'READY'),
  '--verbose': shows(`${copy} --wait --verbose`, 'COPY'),
  '--pivot': async (service) => {
    service.course = ['RUNNING', 'READY', 'PIVOTING', 'COMPLETED'];
    await asks(`${copy} --pivot`, 'startCopy', { onReady: 'PIVOT' })(service);
    expect(service.request('watch')).toBeDefined();
  },
  '--finish': async (service) => {
    service.course = ['RUNNING', 'READY', 'CANCELLING', 'COMPLETED'];
    await asks(`${copy} --finish`, 'startCopy', { onReady: 'FINISH' })(service);
    expect(service.request('watch')).toBeDefined();
  },
  '--timeout': async (service) => {
    service.course = ['RUNNING', 'READY'];
    await asks(`${copy} --timeout 1h30m`, 'startCopy', { timeLimitMs: 5_400_000 })(service);
    expect(service.request('watch')).toBeDefined();
  },
  '--async': leaves(`${copy} --timeout 9 --async`, 'COPY'),
  'Ctrl-C': async (service) => {
    const stop = new AbortController();
    const running = service.run(`${copy} --wait`.split(' '), { signal: stop.signal });
    await service.isAsked('watch');
    stop.abort(new Interrupted('SIGINT'));
    const { code, stdout } = await running;
    expect(code).toBe(EXIT.interrupted);
    expect(stdout).toContain(`blockjob watch ${JOB}`);
    expect(service.request('abort')).toBeUndefined();
  },
};

const flags = (...names: string[]) => ({ flags: [...names, 'BANDWIDTH_BYTES'] });

const PULL: Readonly<Record<string, Held>> = {
  'domain, path': asks('blockpull vm1 vd0', 'rebase', { disk: DISK, base: '', ...flags() }),
  '--bandwidth': asks('pull vm1 vd0 --bandwidth 100', 'rebase', { bandwidth: 100n << 20n }),
  '--bytes': asks('pull vm1 vd0 --bandwidth 100 --bytes', 'rebase', { bandwidth: 100n }),
  '--base': asks('pull vm1 vd0 --base vd0[1]', 'rebase', { base: 'vd0[1]' }),
  '--keep-relative': asks('pull vm1 vd0 --base b --keep-relative', 'rebase', flags('RELATIVE')),
  '--wait': waits('pull vm1 vd0 --wait', 'PULL', 'COMPLETED'),
  '--verbose': shows('pull vm1 vd0 --wait --verbose', 'PULL'),
  '--timeout': bounds('pull vm1 vd0 --timeout 0.1', 'PULL'),
  '--async': leaves('pull vm1 vd0 --timeout 0.1 --async', 'PULL'),
};

const COMMIT: Readonly<Record<string, Held>> = {
  'domain, path': asks('blockcommit vm1 vd0', 'commit', { disk: DISK, base: '', top: '', ...flags() }),
  '--bandwidth': asks('commit vm1 vd0 --bandwidth 1G', 'commit', { bandwidth: 1n << 30n }),
  '--bytes': asks('commit vm1 vd0 --bandwidth 100 --bytes', 'commit', { bandwidth: 100n }),
  '--base': asks('commit vm1 vd0 --base /b', 'commit', { base: '/b' }),
  '--shallow': asks('commit vm1 vd0 --shallow', 'commit', flags('SHALLOW')),
  '--top': asks('commit vm1 vd0 --top /t', 'commit', { top: '/t' }),
  '--active': asks('commit vm1 vd0 --active', 'commit', flags('ACTIVE')),
  '--delete': asks('commit vm1 vd0 --delete', 'commit', flags('DELETE')),
  '--keep-relative': asks('commit vm1 vd0 --keep-relative', 'commit', flags('RELATIVE')),
  '--wait': waits('commit vm1 vd0 --wait', 'COMMIT', 'COMPLETED'),
  '--verbose': shows('commit vm1 vd0 --wait --verbose', 'COMMIT'),
  '--pivot': ends('commit vm1 vd0 --pivot', true),
  '--keep-overlay': ends('commit vm1 vd0 --keep-overlay', false),
  '--timeout': bounds('commit vm1 vd0 --timeout 0.1', 'COMMIT'),
  '--async': leaves('commit vm1 vd0 --timeout 0.1 --async', 'COMMIT'),
};

const BLOCKJOB: Readonly<Record<string, Held>> = {
  '--info': asks('info vm1 vd0', 'getInfo', { job: { disk: DISK } }),
  '--raw': async (service) => {
    const ran = await service.run('info vm1 vd0 --output json'.split(' '));
    expect(objectsIn(ran)).toMatchObject([{ type: 'job', job: { progress: { currentBytes: '52428800' } } }]);
  },
  '--bytes': async (service) => {
    const { stdout } = await service.run('info vm1 vd0 --bytes'.split(' '));
    expect(stdout).toContain('52428800 of 104857600 B');
    await asks('speed vm1 vd0 7 --bytes', 'setSpeed', { bandwidthBytesPerSecond: 7n })(service);
  },
  '--bandwidth': asks('speed vm1 vd0 7', 'setSpeed', { job: { disk: DISK }, bandwidthBytesPerSecond: 7n << 20n }),
  '--abort': asks('abort vm1 vd0', 'abort', { pivot: false, returnImmediately: false, job: { disk: DISK } }),
  '--pivot': async (service) => {
    await asks('pivot vm1 vd0', 'abort', { pivot: true, job: { disk: DISK } })(service);
    await asks('abort vm1 vd0 --pivot', 'abort', { pivot: true })(service);
  },
  '--async': async (service) => {
    await asks('abort vm1 vd0 --async', 'abort', { pivot: false, returnImmediately: true })(service);
    await asks('pivot vm1 vd0 --async', 'abort', { pivot: true, returnImmediately: true })(service);
  },
};

const DOMJOBINFO: Readonly<Record<string, Held>> = {
  domain: asks('jobs vm1 --active', 'listJobs', {
    domain: 'vm1',
    states: ['STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  }),
  '--completed': asks('jobs vm1 --state completed', 'listJobs', { domain: 'vm1', states: ['COMPLETED'] }),
  '--keep-completed': async (service) => {
    for (const _ of [1, 2]) {
      expect((await service.run('jobs vm1 --state completed'.split(' '))).stdout).toContain(JOB);
    }
  },
  '--anystats': asks('jobs vm1', 'listJobs', { domain: 'vm1', states: [] }),
  '--rawstats': async (service) => {
    expect(objectsIn(await service.run('jobs vm1 --output json'.split(' ')))).toMatchObject([{ type: 'job' }]);
  },
};

/** The options in the help of virsh 11, and the commands that replace them. */
const VIRSH: readonly (readonly [name: string, options: string, rows: Readonly<Record<string, Held>>])[] = [
  [
    'blockcopy',
    'dest bandwidth shallow reuse-external blockdev wait verbose timeout pivot finish async xml format granularity buf-size bytes transient-job synchronous-writes print-xml',
    COPY,
  ],
  ['blockpull', 'bandwidth base wait verbose timeout async keep-relative bytes', PULL],
  [
    'blockcommit',
    'bandwidth base shallow top active delete wait verbose timeout pivot keep-overlay async keep-relative bytes',
    COMMIT,
  ],
  ['blockjob', 'abort async pivot info bytes raw bandwidth', BLOCKJOB],
  ['domjobinfo', 'completed keep-completed anystats rawstats', DOMJOBINFO],
];

function optionsOf(command: Command): string[] {
  return [...command.options.flatMap(({ long }) => long ?? []), ...command.commands.flatMap(optionsOf)];
}

describe.each(VIRSH)('virsh %s', (name, options, held) => {
  const index = VIRSH.findIndex(([one]) => one === name);
  const rows = fromVirsh.tables[index] ?? [];

  it('has each of its options in the table of the page, and each row a test', () => {
    const named = rows.map(([option = '']) => option);
    expect(Object.keys(held)).toEqual(named);
    for (const option of options.split(' ')) expect(named.join(' ')).toContain(`--${option}`);
  });

  it('mentions only options that exist', () => {
    const known = optionsOf(program);
    const told = rows.flatMap(([, here = '']) => here.match(/--[a-z][a-z-]*/g) ?? []);
    expect(told.filter((option) => !known.includes(option))).toEqual([]);
  });

  it.for(rows.map(([option = '', here = '']) => [option, here] as const))('%s is here: %s', async ([option]) => {
    expect(Object.keys(held)).toContain(option);
    await held[option]?.(new StubService());
  });
});

describe('docs/cli.md', () => {
  it('lists the existing commands', () => {
    const [rows = []] = page.section('Commands').tables;
    const listed = rows.map(([usage = '']) => usage.split(' ')[0]);
    expect(new Set(listed)).toEqual(new Set(program.commands.map((command) => command.name())));
  });

  it('lists the existing exit codes', () => {
    const [rows = []] = page.section('Exit codes').tables;
    expect(rows.map(([code]) => Number(code))).toEqual(Object.values(EXIT));
  });

  it('lists the existing flags and environment variables', () => {
    const [rows = []] = page.section('Choose the service').tables;
    const has = program.options.flatMap(({ long, envVar }) => (envVar === undefined ? [] : [[long, envVar]]));
    expect(rows.map(([flag, variable]) => [flag, variable])).toEqual(has);
  });
});
