/** Names, paths and texts come from others: a terminal shows them, and executes nothing in them. */
import { describe, expect, it } from 'vitest';
import { visible } from '../../../src/cli/show/visible.ts';
import { BlockJobError, failure } from '../../../src/core/errors.ts';
import { run } from '../../support/real-qemu/qemu.ts';
import { type Ran, runInside } from '../../support/service/cli.ts';
import { serving } from '../../support/service/stub-server.ts';
import { DOMAIN, StubService } from '../../support/service/stub-service.ts';

// A title, a new line, an escape of one byte, and a name that reads backwards.
const HOSTILE = 'vm\u001b]0;owned\u0007\nvm2\u009b2J\u007f\u202etxt\u2028';
const SHOWN = 'vm\\u001b]0;owned\\u0007\\nvm2\\u009b2J\\u007f\\u202etxt\\u2028';
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u;

/** A service whose VM has such a name, and which refuses with such a text. */
function hostile(): StubService {
  const service = new StubService();
  const domain = { ...DOMAIN, name: HOSTILE };
  const listDomains = async () => await Promise.resolve({ items: [domain], nextPageToken: '', unreachableHosts: [] });
  const getInfo = async () =>
    await Promise.reject(
      new BlockJobError(failure('REFUSED_BY_QEMU', { domain: 'vm1', doing: 'x', qemuText: HOSTILE })),
    );
  return Object.defineProperty(service, 'jobs', { value: { ...service.jobs, listDomains, getInfo } });
}

function linesOf({ stdout, stderr }: Ran): string[] {
  return `${stdout}${stderr}`.split('\n').filter((line) => line !== '');
}

describe.concurrent('names that others have given', () => {
  it('are shown with escapes, and plain text unchanged', () => {
    expect(visible(HOSTILE)).toBe(SHOWN);
    expect(visible('Zürich — ディスク "x" \\n')).toBe('Zürich — ディスク "x" \\n');
  });

  it.each([
    ['a list', ['domains'], SHOWN],
    ['an error', ['info', 'bj1'], SHOWN],
    ['JSON', ['domains', '--output', 'json'], SHOWN],
  ])('does nothing to a terminal in %s', async (_what, args, shown) => {
    const lines = linesOf(await hostile().run(args));
    expect(lines.filter((line) => HIDDEN.test(line))).toEqual([]);
    expect(lines.some((line) => line.includes(shown))).toBe(true);
  });

  it('are unchanged in JSON', async () => {
    const { stdout } = await hostile().run(['domains', '--output', 'json']);
    expect(JSON.parse(stdout)).toMatchObject({ domain: { name: HOSTILE } });
  });

  it('does nothing in a bar', async () => {
    const service = new StubService();
    service.course = ['RUNNING', 'COMPLETED'];
    service.viewAt = (revision) => {
      const view = StubService.prototype.viewAt.call(service, revision);
      return { ...view, job: { ...view.job, accepted: { ...view.job.accepted, disk: 'vd\u009b2J' } } };
    };
    const { stderr } = await service.run(['watch', 'bj1'], { isTTY: true });
    expect(stderr).toContain('vd\\u009b2J');
    expect(stderr).not.toContain('\u009b');
  });

  it('is one candidate of a completion', async () => {
    await using server = await serving('unix', hostile().jobs);
    const { stdout } = await runInside(['__complete', '--address', server.address, 'disks', '']);
    expect(stdout).toBe(`${SHOWN}\t\n`);
  });

  it('are a word for bash when completed, and not a command', async () => {
    const { stdout } = await runInside(['completion', 'bash']);
    const script = `${stdout}
blockjob() { printf '%s\\t\\n' '$(echo owned)' web1; }
COMP_WORDS=(blockjob disks ''); COMP_CWORD=2; _blockjob
printf '%s\\n' "\${COMPREPLY[@]}"; eval "echo \${COMPREPLY[0]}"`;
    expect((await run('bash', ['-c', script])).stdout).toBe('\\$\\(echo\\ owned\\)\nweb1\n$(echo owned)\n');
  });
});
