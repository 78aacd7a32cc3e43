/** The command starts quickly because it does not load what it does not need: gRPC only for a call. */
import { expect, test } from 'vitest';
import { run } from '../../support/real-qemu/qemu.ts';
import { scriptOf } from '../../support/service/bundle.ts';

/** gRPC cannot do without this module of Node, and nothing else in the command has it. */
const OF_GRPC = 'http2';

const SAYS_MODULES = `data:text/javascript,${encodeURIComponent(`
import { registerHooks } from 'node:module';
registerHooks({
  resolve(name, context, next) {
    if (name.replace('node:', '') === '${OF_GRPC}') process.stderr.write('loads gRPC');
    return next(name, context);
  },
});`)}`;

async function loadsGrpc(...args: readonly string[]): Promise<boolean> {
  const command = ['--import', SAYS_MODULES, scriptOf('blockjob'), ...args];
  const { stderr } = await run(process.execPath, command, { accept: [0, 7] });
  return stderr.includes('loads gRPC');
}

test.each([[['--version']], [['--help']], [['copy', '--help']], [['completion', 'bash']], [['__complete', 'co']]])(
  'blockjob %j does not load gRPC',
  async (args) => {
    expect(await loadsGrpc(...args)).toBe(false);
  },
);

test('a call loads it', async () => {
  expect(await loadsGrpc('server', '--address', 'unix:/nowhere')).toBe(true);
});
