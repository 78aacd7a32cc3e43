/**
 * A process that connects to all monitors of a folder, with a question to each, and stays connected: the least that a
 * program in Node can do. It says when it is complete.
 */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const [folder = ''] = process.argv.slice(2);

async function ask(path: string): Promise<void> {
  const socket = connect(path);
  const lines = createInterface(socket);
  await once(lines, 'line');
  for (const command of ['qmp_capabilities', 'query-version']) {
    const answered = once(lines, 'line');
    socket.write(`{"execute":"${command}"}\n`);
    await answered;
  }
}

const names = readdirSync(folder).filter((name) => name.endsWith('.sock'));
await Promise.all(names.map(async (name) => await ask(join(folder, name))));
process.send?.(names.length);
// The parent ends it.
process.on('disconnect', () => process.exit());
