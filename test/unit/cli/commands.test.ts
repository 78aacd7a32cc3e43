/** The requests, the output and the exit status of each command. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { Interrupted } from '../../../src/cli/terminal.ts';
import type { BlockJobs } from '../../../src/core/block-jobs.ts';
import { BlockJobError, failure } from '../../../src/core/errors.ts';
import { type ForeignJob, NO_FOREIGN_JOBS } from '../../../src/core/foreign-job.ts';
import { Certificates } from '../../../src/grpc/certificates.ts';
import { serve } from '../../../src/grpc/server.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';
import { Authority } from '../../support/service/certificates.ts';
import { blockjob, objectsIn, runInside } from '../../support/service/cli.ts';
import { INFO, serving } from '../../support/service/stub-server.ts';
import { PIVOTED, StubService } from '../../support/service/stub-service.ts';
import { DESTINATION, JOB, SOURCE } from '../core/stories.ts';

const COPY = ['copy', 'vm1', 'vd0', DESTINATION] as const;
const DISK = { domain: 'vm1', disk: 'vd0' };

describe.concurrent('info', () => {
  it('of a job after which a later one has moved the guest shows the former state, its time, and the job that knows more', async () => {
    const service = new StubService();
    service.course = ['COMPLETED'];
    const guestAsOf = '2026-01-02T03:04:05.000Z';
    service.outcome = { ...PIVOTED, guestAsOf, guestChangedBy: 'bj2', destinationChangedBy: 'bj3', safeToDelete: [] };
    const { stdout } = await service.run(['info', JOB]);
    expect(stdout.split('\n').slice(-6)).toEqual([
      'vm1/vd0: Successfully pivoted',
      `  The guest ran on ${DESTINATION} as of ${guestAsOf}`,
      '  That has changed since. Job bj2 knows where it runs, and which image the VM must be started with',
      '  Job bj3 has used the destination since, and knows its present contents',
      '  Nothing is known to be safe to delete',
      '',
    ]);
  });
});

describe.concurrent('copy', () => {
  it('without --wait prints the started job, and how to watch it', async () => {
    const service = new StubService();
    const ran = await service.run(COPY);
    expect(ran).toEqual({
      code: 0,
      stdout: `vm1/vd0: Block copy started, job ${JOB}\n  Watch it:  blockjob watch ${JOB}\n`,
      stderr: '',
    });
    expect(service.request('startCopy')).toMatchObject({
      disk: DISK,
      destination: { kind: 'file', path: DESTINATION },
    });
    expect(service.request('watch')).toBeUndefined();
  });

  it('--wait --pivot leaves the pivot to the service, and ends with the final state', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'READY', 'PIVOTING', 'COMPLETED'];
    service.outcome = PIVOTED;
    const ran = await service.run([...COPY, '--wait', '--pivot']);
    expect(ran.code).toBe(0);
    expect(ran.stdout.split('\n')).toEqual([
      'vm1/vd0: Successfully pivoted',
      `  The guest runs on ${DESTINATION}`,
      `  Start the VM next time with ${DESTINATION} (its configuration may still name another image)`,
      `  Safe to delete: ${SOURCE} (name the new image first)`,
      '',
    ]);
    expect(ran.stderr).toBe(`vm1/vd0: Block copy started, job ${JOB}\n`);
    expect(service.request('startCopy')).toMatchObject({ onReady: 'PIVOT' });
    expect(service.request('abort')).toBeUndefined();
  });

  it('of an encrypted destination names the secret that opens it', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'READY', 'PIVOTING', 'COMPLETED'];
    service.outcome = PIVOTED;
    service.encryption = { secretId: 's0' };
    const { stdout } = await service.run([...COPY, '--encryption-secret', 's0', '--wait', '--pivot']);
    expect(stdout).toContain(
      `with ${DESTINATION} (its configuration may still name another image), which is encrypted: LUKS, secret s0`,
    );
    expect((await service.run(['info', JOB])).stdout).toContain('Encryption:  LUKS, secret s0');
    service.encryption = { secretId: '' };
    expect((await service.run(['info', JOB])).stdout).toContain('Encryption:  LUKS, secret ?');
  });

  it('--verbose without a terminal prints each change of state in a line', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'READY', 'PIVOTING', 'COMPLETED'];
    const { stderr } = await service.run([...COPY, '--verbose', '--pivot']);
    expect(stderr.split('\n').slice(1, -1)).toEqual([
      '00:00:01  vm1/vd0  RUNNING  50.0 %, 50.0 MiB of 100 MiB, 10.0 MiB/s, 5 s left',
      '00:00:01  vm1/vd0  READY  50.0 %, 50.0 MiB of 100 MiB, 10.0 MiB/s, 5 s left',
      '00:00:01  vm1/vd0  PIVOTING  50.0 %, 50.0 MiB of 100 MiB, 10.0 MiB/s, 5 s left',
      '00:00:01  vm1/vd0  COMPLETED  100.0 %, 100 B of 100 B, 10.0 MiB/s',
    ]);
  });

  it('on a terminal shows a bar', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'READY', 'PIVOTING', 'COMPLETED'];
    const { stderr } = await service.run([...COPY, '--verbose', '--pivot'], { isTTY: true });
    expect(stderr).toContain('vm1/vd0  ██████████████████████████████ 100.0 %  COMPLETED  100 B of 100 B  10.0 MiB/s');
  });

  it('several disks are several jobs, each with its end', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'COMPLETED'];
    const ran = await service.run(['copy', 'vm1', 'vd0', '/new/a', 'vd1', '/new/b', '--finish']);
    expect(ran.code).toBe(0);
    const starts = service.asked.filter(({ method }) => method === 'startCopy').map(({ request }) => request);
    expect(starts).toMatchObject([
      { disk: DISK, destination: { path: '/new/a' } },
      { disk: { domain: 'vm1', disk: 'vd1' }, destination: { path: '/new/b' } },
    ]);
    expect(ran.stdout.match(/Successfully copied/g)).toHaveLength(2);
  });

  it('of which the second is refused waits for the first, and reports both', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'COMPLETED'];
    let starts = 0;
    service.refuse = (method) => {
      if (method === 'startCopy') starts += 1;
      if (starts === 2) throw new BlockJobError(failure('DISK_NOT_FOUND', { domain: 'vm1', disk: 'vd1' }));
    };
    const args = ['copy', 'vm1', 'vd0', '/new/a', 'vd1', '/new/b', '--finish'];
    const ran = await service.run(args);
    expect(ran.code).toBe(4);
    expect(ran.stdout).toContain('Successfully copied');
    expect(ran.stderr).toContain('vm1/vd1: not started');
    starts = 0;
    const objects = objectsIn(await service.run([...args, '--output', 'json']));
    expect(objects.map(({ type }) => type)).toEqual(['job', 'error', 'event', 'event', 'result']);
    expect(objects[1]).toMatchObject({ exitCode: 4, error: { reason: 'DISK_NOT_FOUND', metadata: { disk: 'vd1' } } });
  });
});

describe.concurrent('the exit code', () => {
  const refused = new BlockJobError(failure('DESTINATION_EXISTS', { path: DESTINATION }));

  it('is 3 if the service refuses, with what to do next', async () => {
    const service = new StubService();
    service.refuse = () => {
      throw refused;
    };
    expect(await service.run(COPY)).toEqual({
      code: 3,
      stdout: '',
      stderr:
        `error: destination ${DESTINATION} already exists and was not changed; name a new file, or set reuse_external to use this one (DESTINATION_EXISTS)\n` +
        'Next: name a new file, or add --reuse-external (its contents are overwritten)\n',
    });
  });

  it('is 4 if the job fails, with the reason', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'FAILED'];
    service.failure = failure('NO_SPACE', { path: DESTINATION, why: 'full' });
    const ran = await service.run([...COPY, '--wait']);
    expect(ran.code).toBe(4);
    expect(ran.stdout).toContain('Block copy failed\n  Why: NO_SPACE: no space left for');
    service.course = ['RUNNING', 'CANCELLED'];
    service.failure = undefined;
    expect((await service.run([...COPY, '--wait'])).code).toBe(4);
  });

  it('is 5 if nobody can know the result', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'UNRESOLVED'];
    service.outcome = { ...PIVOTED, guestWritesTo: undefined, destinationContent: 'UNKNOWN', safeToDelete: [] };
    const ran = await service.run([...COPY, '--pivot']);
    expect(ran.code).toBe(5);
    expect(ran.stdout).toContain('cannot be proved');
    expect(ran.stdout).toContain('Nothing is known to be safe to delete');
    expect(ran.stdout).toContain('is not known');
  });

  it('is 6 if the time is over: by the service for a copy, by the command for a pull', async () => {
    const copying = new StubService();
    copying.course = ['RUNNING', 'CANCELLING', 'CANCELLED'];
    copying.failure = failure('TIME_LIMIT_REACHED', { job: JOB, timeLimit: 90 });
    expect((await copying.run([...COPY, '--timeout', '90'])).code).toBe(6);
    expect(copying.request('startCopy')).toMatchObject({ timeLimitMs: 90_000 });
    expect(copying.request('abort')).toBeUndefined();
    const pulling = new StubService();
    pulling.kind = 'PULL';
    expect((await pulling.run(['pull', 'vm1', 'vd0', '--timeout', '0.1'])).code).toBe(6);
    expect(pulling.request('abort')).toMatchObject({ pivot: false, job: { jobId: JOB } });
  });

  it('is 7 if no service answers', async () => {
    const ran = await runInside(['--address', 'unix:/nowhere.sock', 'jobs']);
    expect(ran.code).toBe(7);
    expect(ran.stderr).toContain('check that blockjobd is running there');
  });

  it('is 7, too, if a host of the fleet is missing in a list', async () => {
    const service = new StubService();
    const jobs = {
      ...service.jobs,
      listJobs: async () =>
        await Promise.resolve({ items: [], nextPageToken: '', unreachableHosts: ['host2'], ...NO_FOREIGN_JOBS }),
    };
    const stub = Object.defineProperty(service, 'jobs', { value: jobs });
    const ran = await stub.run(['jobs']);
    expect(ran.code).toBe(7);
    expect(ran.stderr).toContain('host2');
  });

  it('is 130 after Ctrl-C: the job continues, and the output says how to go on', async () => {
    const service = new StubService();
    const stop = new AbortController();
    const running = service.run([...COPY, '--wait'], { signal: stop.signal });
    await service.isAsked('watch');
    stop.abort(new Interrupted('SIGINT'));
    const ran = await running;
    expect(ran.code).toBe(130);
    expect(ran.stdout).toContain(`Stopped watching; job ${JOB} continues`);
    expect(ran.stdout).toContain(`Watch it again:  blockjob watch ${JOB}`);
    expect(service.request('abort')).toBeUndefined();
  });

  it.each([
    ['startCopy', COPY, 'interrupted; the request may have been carried out nevertheless: blockjob jobs\n'],
    ['listJobs', ['jobs'], 'interrupted\n'],
  ] as const)('is 130 where nobody waits for the answer of %s', async (method, args, said) => {
    const service = new StubService();
    const stop = new AbortController();
    service.refuse = () => stop.abort(new Interrupted('SIGINT'));
    expect(await service.run(args, { signal: stop.signal })).toEqual({ code: 130, stdout: '', stderr: said });
    expect(service.request(method)).toBeDefined();
  });

  it.each([
    ['an option that is not there', [...COPY, '--frmat', 'raw']],
    ['an argument that is missing', ['copy', 'vm1', 'vd0']],
    ['a destination too many', [...COPY, 'vd1']],
    ['a text that is not a speed', [...COPY, '--bandwidth', 'fast']],
    ['a text that is not a limit', ['speed', JOB, 'fast']],
    ['a text that is not an NBD URI', ['copy', 'vm1', 'vd0', 'nbd://h/%']],
    ['options that exclude each other', [...COPY, '--pivot', '--finish']],
    ['a format that is not there', [...COPY, '--format', 'vmdk']],
    ['no job', ['watch']],
    ['a job and all', ['watch', JOB, '--all']],
    ['a certificate without its key', ['jobs', '--cert', '/x.pem']],
    ['a certificate that is not there', ['jobs', '--ca', '/nowhere.pem']],
    ['a context that is not there', ['jobs', '--context', 'nowhere']],
    ['a configuration that is not there', ['jobs', '--config', '/nowhere.yaml']],
    ['no command', ['frobnicate']],
  ])('is 2 for %s, and nothing is asked', async (_what, args) => {
    const { code, stderr, stdout } = await runInside(args);
    expect(code).toBe(2);
    expect(stderr).toMatch(/error: /);
    expect(stdout).toBe('');
  });
});

describe.concurrent('--output json', () => {
  it('prints each state as an event and ends with the result, one object per line', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'READY', 'PIVOTING', 'COMPLETED'];
    service.outcome = PIVOTED;
    const ran = await service.run([...COPY, '--pivot', '--output', 'json']);
    const objects = objectsIn(ran);
    expect(objects.map(({ type }) => type)).toEqual(['job', 'event', 'event', 'event', 'event', 'result']);
    expect(objects[1]).toMatchObject({
      event: { kind: 'KIND_SNAPSHOT', revision: '1', job: { state: 'STATE_RUNNING' } },
    });
    expect(objects.at(-1)).toMatchObject({
      how: 'ended',
      exitCode: 0,
      job: { id: JOB, state: 'STATE_COMPLETED', outcome: { guestWritesTo: DESTINATION } },
    });
    expect(ran.stderr).toBe('');
  });

  it('prints an error in words, with its code', async () => {
    const service = new StubService();
    service.refuse = () => {
      throw new BlockJobError(failure('DISK_NOT_FOUND', { domain: 'vm1', disk: 'x' }));
    };
    const ran = await service.run(['info', 'vm1', 'x', '--output', 'json']);
    expect(objectsIn(ran)).toMatchObject([
      {
        type: 'error',
        exitCode: 3,
        next: 'blockjob disks vm1',
        error: { code: 'NOT_FOUND', reason: 'DISK_NOT_FOUND', metadata: { disk: 'x' }, mayHaveHappened: false },
      },
    ]);
  });

  it('prints why a job failed in words, too, not in bytes', async () => {
    const service = new StubService();
    service.course = ['FAILED'];
    service.failure = failure('NO_SPACE', { path: '/x', why: 'full' });
    const [info] = objectsIn(await service.run(['info', JOB, '--output', 'json']));
    expect(info).toMatchObject({ type: 'job', job: { error: { reason: 'NO_SPACE', metadata: { path: '/x' } } } });
  });

  it.each([
    ['domains', ['domains'], 'domain'],
    ['disks', ['disks', 'vm1'], 'disk'],
    ['jobs', ['jobs'], 'job'],
    ['leftovers', ['leftovers'], 'leftover'],
    ['a check', ['check', 'vm1', 'save'], 'check'],
    ['the server', ['server'], 'server'],
    ['a plan', ['plan', ...COPY], 'plan'],
  ])('of %s', async (_name, args, type) => {
    const service = new StubService();
    const objects = objectsIn(await service.run([...args, '--output', 'json']));
    expect(objects.map((one) => one['type'])).toEqual([type]);
    expect(objects[0]?.[type]).toBeDefined();
  });
});

describe.concurrent('the other commands', () => {
  it('plan shows the steps of each phase, the notes, and the command to start exactly that', async () => {
    const service = new StubService();
    const { code, stdout } = await service.run(['plan', ...COPY, '--pivot']);
    expect(code).toBe(0);
    expect(stdout).toContain(
      'To start:\n   1. create-destination: so\n        create the file\n        undone by: remove',
    );
    expect(stdout).toContain('To pivot, when READY:\n   1. complete\n');
    expect(stdout).toContain('Notes:\n  - the guest is paused for the pivot\n');
    expect(stdout).toContain('add --plan-etag e1');
    expect(service.request('startCopy')).toMatchObject({ validateOnly: true, onReady: 'PIVOT' });
    await service.run([...COPY, '--plan-etag', 'e1', '--request-id', 'mine']);
    expect(service.request('startCopy')).toMatchObject({ validateOnly: false, planEtag: 'e1', requestId: 'mine' });
  });

  it('accept exactly the named losses, and nothing else', async () => {
    const service = new StubService();
    const accept = ['--accept', 'loses-encryption', '--accept', 'shared-writer'];
    await service.run([...COPY, ...accept]);
    await service.run(['pull', 'web1', 'vd0', '--accept', 'loses-internal-snapshots']);
    await service.run(['commit', 'web1', 'vd0', ...accept]);
    expect(service.request('startCopy')).toMatchObject({ accept: ['LOSES_ENCRYPTION', 'SHARED_WRITER'] });
    expect(service.request('rebase')).toMatchObject({ accept: ['LOSES_INTERNAL_SNAPSHOTS'] });
    expect(service.request('commit')).toMatchObject({ accept: ['LOSES_ENCRYPTION', 'SHARED_WRITER'] });
    const { code, stderr } = await service.run([...COPY, '--accept', 'everything']);
    expect(code).toBe(2);
    expect(stderr).toContain('Allowed choices are loses-encryption');
  });

  it('a copy is compared first on request', async () => {
    const service = new StubService();
    await service.run([...COPY, '--shallow', '--reuse-external', '--verify-reused']);
    expect(service.request('startCopy')).toMatchObject({ shallow: true, reuseExternal: true, verifyReused: true });
    await service.run(COPY);
    expect(service.request('startCopy')).toMatchObject({ verifyReused: false });
  });

  it('watch continues until the end, or with --ready until READY', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'READY'];
    const ready = await service.run(['watch', JOB, '--ready']);
    expect(ready.code).toBe(0);
    expect(ready.stdout).toContain('Now in mirroring phase; the job continues');
    service.go('CANCELLING', 'CANCELLED');
    const ended = await service.run(['watch', 'vm1', 'vd0']);
    expect(ended.code).toBe(4);
    expect(ended.stdout).toContain('ended without a pivot; the copy is complete');
    expect(service.request('getInfo')).toMatchObject({ job: { disk: DISK } });
  });

  it('watch --all shows all active jobs', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'COMPLETED'];
    expect((await service.run(['watch', '--all', '--domain', 'vm1'])).code).toBe(0);
    expect(service.request('listJobs')).toMatchObject({
      domain: 'vm1',
      states: ['STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
    });
  });

  it('pivot and abort say how it ended; too late is not done', async () => {
    const service = new StubService();
    const pivoted = await service.run(['pivot', JOB, '--pause-guest', 'always']);
    expect(pivoted.code).toBe(0);
    expect(pivoted.stdout).toContain('Successfully pivoted');
    expect(service.request('abort')).toMatchObject({ pivot: true, returnImmediately: false, pauseGuest: 'ALWAYS' });
    expect((await service.run(['abort', 'vm1', 'vd0', '--force'])).code).toBe(0);
    expect(service.request('abort')).toMatchObject({ pivot: false, force: true, job: { disk: DISK } });
    const later = await service.run(['pivot', JOB, '--async']);
    expect(later).toMatchObject({ code: 0, stdout: `vm1/vd0: PIVOTING\n  How it ends:  blockjob watch ${JOB}\n` });
  });

  it('pivot of a job that fails in it reports that end', async () => {
    const service = new StubService();
    const why = failure('REFUSED_BY_QEMU', { domain: 'vm1', doing: 'job-complete', qemuText: 'no' });
    service.course = ['READY', 'FAILED'];
    service.failure = why;
    service.refuse = (method) => {
      if (method === 'abort') throw new BlockJobError(why);
    };
    const ran = await service.run(['pivot', JOB]);
    expect(ran.code).toBe(4);
    expect(ran.stdout).toContain('Block copy failed');
  });

  it('speed takes units, and a plain number as virsh does', async () => {
    const service = new StubService();
    await service.run(['speed', JOB, '1.5GiB']);
    expect(service.request('setSpeed')).toMatchObject({ job: { jobId: JOB }, bandwidthBytesPerSecond: 3n << 29n });
    await service.run(['speed', 'vm1', 'vd0', '10']);
    expect(service.request('setSpeed')).toMatchObject({ job: { disk: DISK }, bandwidthBytesPerSecond: 10n << 20n });
    await service.run(['speed', JOB, '10', '--bytes']);
    expect(service.request('setSpeed')).toMatchObject({ bandwidthBytesPerSecond: 10n });
  });

  it('events, with the selected jobs, and a token to continue', async () => {
    const service = new StubService();
    const plain = await service.run([
      'events',
      '--domain',
      'vm1',
      '--label',
      'a=b=c',
      '--label',
      'd=',
      '--created-by',
      'me',
    ]);
    expect(service.request('watchJobs')).toMatchObject({
      domain: 'vm1',
      labels: { a: 'b=c', d: '' },
      createdBy: 'me',
    });
    expect(plain.code).toBe(0);
    expect(plain.stdout).toContain(`${JOB}  vm1/vd0  RUNNING`);
    expect(plain.stdout).toContain('host2: HOST_UNREACHABLE');
    const { stdout } = await service.run(['events', '--output', 'json']);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, string>);
    expect(lines.map(({ type }) => type)).toEqual(['snapshot', 'event', 'synced', 'unreachable']);
    const token = lines[2]?.['resumeToken'] ?? '';
    await service.run(['events', '--resume-token', token]);
    expect(service.request('watchJobs')).toMatchObject({ positions: new Map([['host1', { epoch: 'e', at: 7 }]]) });
    expect((await service.run(['events', '--label', 'a'])).code).toBe(2);
    expect((await service.run(['jobs', '--label', 'a=b', '--created-by', 'me'])).code).toBe(0);
    expect(service.request('listJobs')).toMatchObject({ labels: { a: 'b' }, createdBy: 'me' });
    await service.run(['pull', 'vm1', 'vd0', '--label', 'team=blue']);
    expect(service.request('rebase')).toMatchObject({ labels: { team: 'blue' } });
  });

  it('pause, resume, check, leftovers and reclaim', async () => {
    const service = new StubService();
    expect((await service.run(['pause', JOB])).stdout).toBe('vm1/vd0: RUNNING\n');
    expect((await service.run(['resume', 'vm1', 'vd0'])).code).toBe(0);
    expect(service.request('resume')).toMatchObject({ job: { disk: DISK } });
    expect((await service.run(['check', 'vm1', 'detach', 'vd0'])).stdout).toBe('vm1/vd0: detach may be done now\n');
    expect(service.request('checkOperation')).toMatchObject({ domain: 'vm1', disk: 'vd0', operation: 'DETACH' });
    const why = failure('BLOCK_JOB_ACTIVE', { domain: 'vm1', disk: 'vd0', job: JOB });
    service.checked = { reasons: [why], blocking: [service.view] };
    const no = await service.run(['check', 'vm1', 'save']);
    expect(no.code).toBe(3);
    expect(no.stdout).toBe(`vm1: save may not be done now\n  BLOCK_JOB_ACTIVE: ${why.text}\n`);
    const json = await service.run(['check', 'vm1', 'save', '--output', 'json']);
    expect(JSON.parse(json.stdout)).toMatchObject({ check: { allowed: false, blockingJobs: [JOB] } });
    const left = await service.run(['leftovers', 'vm1']);
    expect(left.stdout).toContain('file:1\n  FILE /copies/old.qcow2, 1.00 MiB, of vm1 on host1');
    expect(left.stderr).toContain('blockjob reclaim --apply file:1');
    const reclaimed = await service.run(['reclaim', 'gone', 'file:1', '--apply']);
    expect(service.request('reclaim')).toMatchObject({ ids: ['gone', 'file:1'], apply: true });
    expect(reclaimed.code).toBe(4);
    expect((await service.run(['reclaim', 'gone', 'file:1'])).code).toBe(3);
    expect(reclaimed.stdout).toContain('gone: removed\n');
    expect(reclaimed.stdout).toContain('not removed: ACCESS_DENIED');
  });

  it('server shows the service that answers', async () => {
    const { code, stdout } = await new StubService().run(['server']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Version: +\S+ \(.+\)\nMode: +serve\nHost: +\S+\nSince: +\d{4}-/);
  });

  it('domains, disks and jobs are tables', async () => {
    const service = new StubService();
    expect((await service.run(['domains'])).stdout).toMatch(/^DOMAIN +HOST.*\nvm1 +host1 +RUNNING +10\.0\.0/);
    const { stdout } = await service.run(['disks', 'vm1']);
    expect(stdout).toBe(`vd0  virtio-blk-pci, 1.00 GiB\n  [0] ${SOURCE}  (qcow2, 1.00 MiB on disk)\n`);
    expect((await service.run(['jobs', '--active', '--limit', '5'])).stdout).toContain(
      `${JOB}  vm1/vd0  COPY  RUNNING`,
    );
  });
});

describe('jobs of other clients', () => {
  const foreign: ForeignJob = {
    id: 'drive-virtio-disk0',
    host: 'host1',
    domain: 'vm1',
    domainUuid: undefined,
    disk: 'vd0',
    type: 'mirror',
    status: 'running',
    error: undefined,
    currentBytes: 1 << 20,
    endBytes: 4 << 20,
    isOfLibvirt: true,
  };
  const save = { ...foreign, id: 'save', disk: undefined, type: 'snapshot-save', status: 'concluded' } as const;
  const unknown = { ...save, error: 'no space', endBytes: 0, isOfLibvirt: false };
  const service = new StubService();
  service.foreign = { foreignJobs: [foreign, unknown], unreachableDomains: ['vm2'] };

  it('are shown below ours, without a command to end them; a VM that does not answer is listed', async () => {
    const { stdout, stderr, code } = await service.run(['jobs']);
    expect(
      stdout
        .split('\n')
        .slice(1)
        .map((line) => line.replaceAll(/ {2,}/g, '|')),
    ).toEqual([
      expect.stringContaining(JOB),
      '',
      'Jobs of other clients, which only those clients can end:',
      'FOREIGN JOB|DISK|KIND|STATUS|PROGRESS|BEGUN BY',
      'drive-virtio-disk0|vm1/vd0|mirror|running|25.0 %|libvirt, most likely',
      'save|vm1|snapshot-save|concluded: no space|another client',
      '',
    ]);
    expect(stderr).toBe('these VMs do not answer, so jobs of other clients are missing for them: vm2\n');
    expect(code).toBe(0);
  });

  it('are objects of a type of their own for programs', async () => {
    const objects = objectsIn(await service.run(['jobs', '--output', 'json']));
    expect(objects.map(({ type }) => type)).toEqual(['job', 'foreign', 'foreign', 'unreachable']);
    expect(objects[1]).toMatchObject({ foreign: { id: foreign.id, current: '1048576', managedByLibvirt: true } });
    expect(objects[3]).toEqual({ type: 'unreachable', hosts: [], domains: ['vm2'], exitCode: 0 });
  });
});

describe('the address of the service', () => {
  it('the environment chooses the service and the form of the output', async () => {
    const service = new StubService();
    await using server = await serving('unix', service.jobs);
    const environment = { BLOCKJOB_ADDRESS: `unix:/nowhere.sock,${server.address}`, BLOCKJOB_OUTPUT: 'json' };
    const ran = await blockjob(['jobs'], environment);
    expect(ran.code).toBe(0);
    expect(objectsIn(ran)).toMatchObject([{ type: 'job', job: { id: JOB } }]);
    expect((await blockjob(['jobs', '--output', 'text'], environment)).stdout).toMatch(/^JOB /);
  });

  it('a context has its certificates, and they are used', async () => {
    await using dir = await testDir('bj-context-');
    const authority = await Authority.make(dir.path);
    const pair = await authority.sign('both');
    const log = pino({ level: 'silent' });
    using certificates = new Certificates({ ...pair, caFile: authority.caFile }, log);
    const { jobs } = new StubService();
    const server = await serve(jobs as BlockJobs, {
      info: INFO,
      listen: { host: '127.0.0.1', port: 0 },
      certificates,
      log,
    });
    await using _end = { [Symbol.asyncDispose]: async () => await server.drain(0) };
    const config = join(dir.path, 'config.yaml');
    const context = `{ address: "${server.address}", ca: ca.pem, cert: both.pem, key: both.key, server-name: localhost }`;
    await writeFile(config, `current: x\ncontexts: { x: ${context} }\n`);
    expect((await runInside(['jobs', '--config', config])).stdout).toContain(JOB);
    expect((await runInside(['jobs', '--address', server.address])).code).toBe(7);
  });
});

describe('the configuration file', () => {
  it('has contexts, whose files are relative to it; a flag takes precedence', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'bj-config-'));
    try {
      const path = join(dir, 'config.yaml');
      await writeFile(
        path,
        'current: here # where I am\ncontexts:\n  here: { address: "unix:/nowhere.sock" }\n  there:\n    address: [a:1, b:2]\n    ca: ca.pem\n',
      );
      const config = ['--config', path];
      const list = await runInside(['context', ...config]);
      expect(list.stdout).toBe('   CONTEXT  ADDRESS\n*  here     unix:/nowhere.sock\n   there    a:1, b:2\n');
      expect((await runInside(['jobs', ...config])).stderr).toContain('/nowhere.sock');
      const there = await runInside(['jobs', ...config, '--context', 'there']);
      expect(there).toMatchObject({ code: 2, stderr: expect.stringContaining(join(dir, 'ca.pem')) as string });
      expect((await runInside(['context', 'use', 'there', ...config])).code).toBe(0);
      expect(await readFile(path, 'utf8')).toMatch(/^current: there # where I am\n/);
      const service = new StubService();
      expect((await service.run(['jobs', ...config])).code).toBe(0);
      await writeFile(path, 'contexts: { x: { adress: y } }\n');
      expect((await runInside(['jobs', ...config])).stderr).toContain('there is no adress');
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
