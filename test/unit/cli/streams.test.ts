/** The exit status of the command if its output cannot be written. */
import { describe, expect, it } from 'vitest';
import { BLOCKJOB, type Ran, RunningCommand } from '../../support/service/cli.ts';

/** In a shell, where $BLOCKJOB is the command. */
async function shell(script: string): Promise<Ran> {
  return await new RunningCommand('bash', ['-c', script], { BLOCKJOB: `${process.execPath} ${BLOCKJOB}` }).end();
}

describe.concurrent('output that cannot be written', () => {
  it('when its reader has gone ends as with SIGPIPE', async () => {
    expect(await shell('exec 3> >(true); wait $!; $BLOCKJOB completion bash >&3')).toMatchObject({
      code: 141,
      stderr: '',
    });
  });

  it('for another reason is reported, and is not done', async () => {
    const { code, stderr } = await shell('$BLOCKJOB completion bash >/dev/full');
    expect(stderr).toContain('error: the output cannot be written: ENOSPC');
    expect(code).toBe(5);
  });

  it('does not matter beside the result', async () => {
    expect((await shell('$BLOCKJOB frobnicate 2>/dev/full')).code).toBe(2);
  });
});
