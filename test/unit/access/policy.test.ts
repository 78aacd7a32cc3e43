/* oxlint-disable unicorn/consistent-function-scoping */
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { Guarded, type LivePolicy } from '../../../src/access/guarded.ts';
import { Policy } from '../../../src/access/policy.ts';
import { PolicyFile } from '../../../src/access/policy-file.ts';
import type { BlockJobs, Call, Domain, Leftover } from '../../../src/core/block-jobs.ts';
import { BlockJobError, failure } from '../../../src/core/errors.ts';
import { type ForeignJob, type ForeignJobs, NO_FOREIGN_JOBS } from '../../../src/core/foreign-job.ts';
import type { Right } from '../../../src/core/grant.ts';
import type { ListDomainsRequest, ListJobsRequest, ListLeftoversRequest } from '../../../src/core/requests.ts';
import { may, mustOperate, notThere } from '../../../src/core/rights.ts';
import { BY_AGE, BY_NAME, OLDEST_FIRST, type Order, page } from '../../../src/core/rules/list.ts';
import { eventually } from '../../support/checks.ts';
import { cpuMsSince } from '../../support/cpu-time.ts';
import { jobWith, RUNNING } from '../core/stories.ts';

function policy(callers: object): Policy {
  const read = Policy.read(JSON.stringify({ callers }));
  if (typeof read === 'string') throw new Error(read);
  return read;
}

function fixed(rules: Policy): LivePolicy {
  return { now: rules, onChange: () => ({ [Symbol.dispose]: () => undefined }) };
}

describe('a policy', () => {
  const some = policy({
    'spiffe://site/backup': { operate: ['web*', 'db1'] },
    'spiffe://site/*': { read: ['*'] },
    'ops.example': { operate: ['*'], read: [] },
  });

  it.each([
    ['spiffe://site/backup', 'operate', 'web1', true],
    ['spiffe://site/backup', 'operate', 'web', true],
    ['spiffe://site/backup', 'read', 'web1', true],
    ['spiffe://site/backup', 'operate', 'db1', true],
    ['spiffe://site/backup', 'operate', 'db10', false],
    ['spiffe://site/backup', 'operate', 'aweb1', false],
    ['spiffe://site/backup', 'read', 'db10', true],
    ['spiffe://site/other', 'read', 'db10', true],
    ['spiffe://site/other', 'operate', 'db10', false],
    ['spiffe://elsewhere/backup', 'read', 'web1', false],
    ['spiffe://site', 'read', 'web1', false],
    ['ops.example', 'operate', 'x\ny', true],
    ['opsXexample', 'read', 'web1', false],
    ['', 'read', 'web1', false],
  ] as const)('%s may %s %j: %s', (caller, right, domain, allowed) => {
    expect(some.allows(caller, right, domain)).toBe(allowed);
  });

  it('takes a text that is not a pattern by the letter', () => {
    const odd = policy({ 'a(b)+[c]^$.|\\': { read: ['x.y?', 'a*b*c'] } });
    expect(odd.allows('a(b)+[c]^$.|\\', 'read', 'x.y?')).toBe(true);
    expect(odd.allows('a(b)+[c]^$.|\\', 'read', 'xzy')).toBe(false);
    expect(odd.allows('a(b)+[c]^$.|\\', 'read', 'a1b2c')).toBe(true);
  });

  it('distinguishes DNS names from SPIFFE ids, whatever a pattern would fit', () => {
    const kinds = policy({
      '*.example': { read: ['a'] },
      's*': { read: ['b'] },
      'spiffe://*': { read: ['c'] },
      '*': {},
    });
    const reads = (caller: string) => ['a', 'b', 'c'].filter((domain) => kinds.allows(caller, 'read', domain)).join('');
    expect(reads('ops.example')).toBe('a');
    expect(reads('spiffe://site/ops.example')).toBe('c');
    expect(reads('site.example')).toBe('ab');
    expect(kinds.names('other')).toBe(true);
    expect(kinds.names('spiffe://other')).toBe(true);
  });

  it('is evaluated fast, whatever its patterns and the names', () => {
    const slow = policy({ me: { read: [`*a*b*${'a'.repeat(500)}b*`] } });
    const began = process.threadCpuUsage();
    expect(slow.allows('me', 'read', 'a'.repeat(320_000))).toBe(false);
    expect(cpuMsSince(began)).toBeLessThan(1000);
  });

  it('limits the names in it, and those of one caller', () => {
    const names = (count: number) => Array.from({ length: count }, (_, at) => `vm${String(at).padStart(6, '0')}`);
    const read = (callers: object) => Policy.read(JSON.stringify({ callers }));
    expect(read({ me: { read: ['a'.repeat(1025)] } })).toContain('Caller me has a domain longer than 1024');
    expect(read({ ['a'.repeat(2049)]: {} })).toContain('The name of a caller is longer than 2048');
    expect(read({ me: { read: names(1400) }, you: { read: names(1400) } })).toBeInstanceOf(Policy);
    expect(read({ 'me*': { read: names(1600) } })).toContain('Callers with a * may have 176');
    expect(read({ '*': { operate: names(720) }, me: { read: names(800) } })).toContain(
      'Caller me, together with the entries of callers with a *, may have',
    );
  });

  it.each([
    ['{"callers":{"http://a":{}}}', 'is neither a SPIFFE id'],
    ['{"callers":{"spiffe:*":{}}}', 'is neither a SPIFFE id'],
    ['{', 'It is not JSON'],
    ['[]', '"callers"'],
    ['{"callers":[]}', '"callers"'],
    ['{"callers":{},"rules":{}}', '"rules", which means nothing'],
    ['{"callers":{"":{}}}', 'has no name'],
    ['{"callers":{"a":[]}}', 'must be an object'],
    ['{"callers":{"a":{"write":["*"]}}}', 'there are "read" and "operate"'],
    ['{"callers":{"a":{"read":"*"}}}', 'must be lists'],
    ['{"callers":{"a":{"operate":[""]}}}', 'must be lists'],
  ])('%s: %s', (text, why) => {
    expect(Policy.read(text)).toContain(why);
  });

  it('is read again when its file is replaced; a wrong file changes nothing and is logged', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'bj-policy-'));
    const path = join(folder, 'policy.json');
    const replace = async (text: string) => {
      await writeFile(`${path}.new`, text);
      await rename(`${path}.new`, path);
    };
    const lines: string[] = [];
    const sink = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        lines.push(chunk.toString());
        done();
      },
    });
    try {
      await replace('{"callers":{"a":{"read":["x"]}}}');
      using file = new PolicyFile(path, pino(sink));
      await replace('{"callers":{"a":{"read":["y"]}}}');
      await eventually(
        'the new one',
        async () => (await Promise.resolve(file.now)).allows('a', 'read', 'y') || undefined,
      );
      await replace('{"callers":');
      await eventually('the complaint', async () =>
        (await Promise.resolve(lines)).some((line) => line.includes('The policy file is wrong')) ? true : undefined,
      );
      expect(file.now.allows('a', 'read', 'y')).toBe(true);
      expect(() => new PolicyFile(path, pino(sink))).toThrow('It is not JSON');
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe('the names that a server reports for itself', () => {
  const rules = policy({ 'spiffe://site/*': { read: ['one'] }, nobody: {} });
  const guarded = new Guarded({} as BlockJobs, fixed(rules));
  const { signal } = new AbortController();

  it('admits each caller that the policy names, with whatever rights', () => {
    for (const caller of ['spiffe://site/a', 'nobody']) expect(() => guarded.mayAsk({ signal, caller })).not.toThrow();
    expect(() => guarded.mayAsk({ signal, caller: 'stranger' })).toThrow('caller stranger may not read');
    expect(() => guarded.mayAsk({ signal })).toThrow('neither a SPIFFE id nor a DNS name');
  });
});

describe('the guarded calls', () => {
  const view = (domain: string) => ({ job: jobWith({ domain }, RUNNING), progress: undefined });
  const leftover = (domain: string) => ({ id: domain, domain }) as Leftover;
  const foreign: ForeignJobs = {
    foreignJobs: ['mine', 'seen', 'theirs'].map((domain) => ({ domain, id: domain, host: 'h' }) as ForeignJob),
    unreachableDomains: ['mine', 'theirs'],
  };
  let names: readonly string[] = ['mine', 'theirs', 'seen'];
  const done: string[] = [];
  const did = (what: string) => done.push(what);
  const pageOf = <T>(items: readonly T[], order: Order<T>, asked: { pageSize: number; pageToken: string }) => ({
    ...page(items, order, asked),
    unreachableHosts: [],
  });
  /** As an agent does: whatever the caller names, the policy is applied to the found object. */
  const found = (domain: string, call: Call, right: Right) => {
    const name = { 'uuid-of-mine': 'mine', 'uuid-of-theirs': 'theirs' }[domain] ?? domain;
    const unknown = failure('DOMAIN_NOT_FOUND', { domain });
    if (right === 'operate') mustOperate(call, name, unknown);
    else if (!may(call, 'read', name)) notThere(unknown, call, name);
    return view(name);
  };
  interface OnDisk {
    readonly disk: { readonly domain: string };
  }
  interface OnJob {
    readonly job: { readonly jobId: string };
  }
  const start = (what: string) => async (request: OnDisk, call: Call) => {
    const started = found(request.disk.domain, call, 'operate');
    did(what);
    return started;
  };
  const change = (what: string) => async (request: OnJob, call: Call) => {
    const changed = found(request.job.jobId, call, 'operate');
    did(what);
    return changed;
  };
  const jobs = {
    startCopy: start('startCopy'),
    rebase: start('rebase'),
    commit: start('commit'),
    getInfo: async ({ jobId }: OnJob['job'], call: Call) => found(jobId, call, 'read'),
    abort: change('abort'),
    setSpeed: change('setSpeed'),
    pause: change('pause'),
    resume: change('resume'),
    listJobs: async (asked: ListJobsRequest) => ({
      ...pageOf([view('mine'), view('theirs'), view('seen')], BY_AGE, asked),
      ...(asked.pageToken === '' ? foreign : NO_FOREIGN_JOBS),
    }),
    listDomains: async (asked: ListDomainsRequest) =>
      pageOf(
        names.map((name) => ({ name, host: 'h' }) as Domain),
        BY_NAME,
        asked,
      ),
    listLeftovers: async (asked: ListLeftoversRequest) =>
      pageOf([leftover('mine'), leftover('theirs')], OLDEST_FIRST, asked),
    reclaim: async ({ ids, apply }: { ids: string[]; apply: boolean }) => {
      if (apply) did(`reclaim ${ids.join()}`);
      return ids.map((id) => ({
        id,
        leftover: id === 'late' && !apply ? undefined : leftover(id),
        failure: undefined,
      }));
    },
    getDomain: async (domain: string, call: Call) => ({
      domain: { name: found(domain, call, 'read').job.accepted.domain },
    }),
    checkOperation: async ({ domain }: { domain: string }, call: Call) => ({
      reasons: [],
      blocking: [found(domain, call, 'read')],
    }),
    async *watch({ job }: OnJob) {
      yield { ...view(job.jobId), type: 'STATE' };
    },
  } as unknown as BlockJobs;
  const rules = policy({ me: { operate: ['mine'], read: ['seen'] } });
  const guarded = new Guarded(jobs, fixed(rules));
  const me: Call = { signal: new AbortController().signal, caller: 'me' };
  const nobody: Call = { signal: new AbortController().signal };

  const operations = (domain: string, job: string) => {
    const request = { disk: { domain, disk: 'd' } } as never;
    const ref = { job: { jobId: job } } as never;
    return [
      async (call: Call) => await guarded.startCopy(request, call),
      async (call: Call) => await guarded.rebase(request, call),
      async (call: Call) => await guarded.commit(request, call),
      async (call: Call) => await guarded.abort(ref, call),
      async (call: Call) => await guarded.setSpeed(ref, call),
      async (call: Call) => await guarded.pause(ref, call),
      async (call: Call) => await guarded.resume(ref, call),
    ];
  };
  const reclaim = async (id: string, call: Call) =>
    await guarded.reclaim({ ids: [id], apply: true, requestId: '' }, call);
  const readings = (domain: string, job: string) => [
    async (call: Call) => await guarded.getInfo({ jobId: job }, call),
    async (call: Call) => await guarded.getDomain(domain, call),
    async (call: Call) => await guarded.checkOperation({ domain, disk: undefined, operation: undefined }, call),
    async (call: Call) => {
      for await (const _event of guarded.watch({ job: { jobId: job } } as never, call));
    },
  ];
  const reasonOf = async (answer: Promise<unknown>) =>
    await answer.then(
      () => 'done',
      (error: unknown) => (error instanceof BlockJobError ? error.reason : String(error)),
    );

  it('a caller that may operate does, by name and by UUID, and reads', async () => {
    for (const domain of ['mine', 'uuid-of-mine']) {
      for (const ask of [...operations(domain, 'mine'), ...readings(domain, 'mine')])
        expect(await reasonOf(ask(me))).toBe('done');
    }
    done.length = 0;
    expect(await reclaim('mine', me)).toMatchObject([{ leftover: { id: 'mine' } }]);
    expect(done).toEqual(['reclaim mine']);
  });

  it('a caller that may only read is refused all the rest, and nothing is done', async () => {
    for (const ask of readings('seen', 'seen')) expect(await reasonOf(ask(me))).toBe('done');
    done.length = 0;
    for (const ask of operations('seen', 'seen')) expect(await reasonOf(ask(me))).toBe('CALLER_NOT_ALLOWED');
    expect(await reasonOf(reclaim('seen', me))).toBe('CALLER_NOT_ALLOWED');
    expect(done).toEqual([]);
  });

  it('a caller that may not read it sees nothing; a caller without a name is told that', async () => {
    done.length = 0;
    for (const domain of ['theirs', 'uuid-of-theirs', 'unknown']) {
      for (const ask of [...operations(domain, 'theirs'), ...readings(domain, 'theirs')]) {
        expect(await reasonOf(ask(me))).toMatch(/^(DOMAIN|JOB)_NOT_FOUND$/);
        expect(await reasonOf(ask(nobody))).toBe('CALLER_UNKNOWN');
      }
    }
    expect(await reclaim('theirs', me)).toEqual([{ id: 'theirs' }]);
    expect(await reasonOf(reclaim('theirs', nobody))).toBe('CALLER_UNKNOWN');
    expect(done).toEqual([]);
  });

  it('lists show what the caller may read', async () => {
    const asked = { domain: '', host: '', states: [], pageSize: 0, pageToken: '' };
    expect((await guarded.listJobs(asked, me)).items.map(({ job }) => job.accepted.domain)).toEqual(['mine', 'seen']);
    expect((await guarded.listDomains(asked, me)).items.map(({ name }) => name)).toEqual(['mine', 'seen']);
    expect(await guarded.listLeftovers(asked, me)).toMatchObject({ items: [{ id: 'mine' }], nextPageToken: '' });
    expect(await reasonOf(guarded.listJobs(asked, nobody))).toBe('CALLER_UNKNOWN');
  });

  it('an answer for an object that its caller may no longer read is as if it did not exist', async () => {
    let now = policy({ me: { operate: ['mine'] } });
    const taken = {
      ...jobs,
      abort: async (...[request, call]: Parameters<BlockJobs['abort']>) => {
        const shown = await jobs.abort(request, call);
        now = policy({});
        return shown;
      },
    };
    const changing = new Guarded(taken, {
      ...fixed(now),
      get now() {
        return now;
      },
    });
    const answer = changing.abort({ job: { jobId: 'mine' } } as never, me);
    await expect(answer).rejects.toMatchObject({
      failure: { reason: 'JOB_NOT_FOUND' },
      hides: { reason: 'CALLER_NOT_ALLOWED' },
    });
  });

  it('foreign jobs are those of VMs that the caller may read, all on the first page', async () => {
    const asked = { domain: '', states: [], pageSize: 1, pageToken: '' };
    const first = await guarded.listJobs(asked, me);
    expect(first.foreignJobs.map(({ domain }) => domain)).toEqual(['mine', 'seen']);
    expect(first.unreachableDomains).toEqual(['mine']);
    expect(first.nextPageToken).not.toBe('');
    expect(await guarded.listJobs({ ...asked, pageToken: first.nextPageToken }, me)).toMatchObject(NO_FOREIGN_JOBS);
  });

  it.each([1, 2, 3, 4, 5, 100])('lists in pages of %d name only objects that the caller may read', async (pageSize) => {
    const letters = 'abcdefghijklmnopqrstuvwxyz'.split('');
    names = letters;
    const readable = letters.filter((_name, at) => at % 3 === 1 || at > 20);
    const some = policy({ some: { read: readable }, none: {}, all: { read: ['*'] } });
    const lists = new Guarded(jobs, fixed(some));
    for (const [caller, expected] of [
      ['some', readable],
      ['none', []],
      ['all', letters],
    ] as const) {
      const seen: string[] = [];
      let pageToken = '';
      do {
        const one = await lists.listDomains({ host: '', pageSize, pageToken }, { ...me, caller });
        seen.push(...one.items.map(({ name }) => name));
        pageToken = one.nextPageToken;
        // Each page except the last one is full, and its token is the position of its last item.
        if (pageToken === '') continue;
        expect(one.items).toHaveLength(pageSize);
        expect(decodeURIComponent(pageToken)).toBe(`domains:5465b825 ${seen.at(-1)} h`);
      } while (pageToken !== '');
      expect(seen).toEqual(expected);
    }
  });

  it('objects that appear between the two looks of a Reclaim are not removed', async () => {
    done.length = 0;
    const ids = ['mine', 'late'];
    const results = await guarded.reclaim({ ids, apply: true, requestId: '' }, me);
    expect(done).toEqual(['reclaim mine']);
    expect(results.map(({ id, leftover: what }) => [id, what?.domain])).toEqual([
      ['mine', 'mine'],
      ['late', undefined],
    ]);
    expect(await guarded.reclaim({ ids: ['late'], apply: true, requestId: '' }, me)).toMatchObject([{ id: 'late' }]);
    expect(done).toEqual(['reclaim mine']);
  });
});
