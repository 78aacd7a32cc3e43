/**
 * make bench: the cost of the start of the command, as its packages have it and from a checkout, beside that of bare Node.
 */
import { join } from 'node:path';
import { PROGRAM, ROOT } from '../../build/places.ts';
import { PYTHON } from '../support/means.ts';
import { run } from '../support/real-qemu/qemu.ts';
import type { Figure } from './figure.ts';
import { inTurns, rounds } from './turns.ts';

const ROUNDS = 20;

/** Node does not know the use of a child that has ended. The values are seconds and megabytes. */
const USE_OF = `
import json, os, sys
out = os.open(os.devnull, os.O_WRONLY)
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, out, 1)])
_, status, use = os.wait4(child, 0)
if status != 0: sys.exit(f'wait status {status}')
print(json.dumps([use.ru_utime + use.ru_stime, use.ru_maxrss * 1024 / 1e6]))
`;

async function useOfCommand(command: readonly string[]): Promise<readonly number[]> {
  return JSON.parse((await run(PYTHON, ['-c', USE_OF, ...command])).stdout) as readonly number[];
}

export async function measure(): Promise<readonly Figure[]> {
  const commands = {
    'the package': [process.execPath, join(PROGRAM, 'bin/blockjob'), '--version'],
    'a checkout': [join(ROOT, 'bin/blockjob'), '--version'],
    '`node -e 0`': [process.execPath, '-e', '0'],
  };
  const measured = [
    { what: 'CPU time', unit: 's' },
    { what: 'peak memory', unit: 'MB' },
  ];
  const contenders = Object.entries(commands).map(([by, command]) => ({
    by,
    once: async () => await useOfCommand(command),
  }));
  return await inTurns(measured, contenders, rounds(ROUNDS));
}
