/** `blockjob context`: the services of the configuration file, and the current one. */
import { Command } from 'commander';
import { configFileOf, type GlobalFlags } from '../settings.ts';
import { table } from '../show/table.ts';
import type { Terminal } from '../terminal.ts';

export function contextCommand(terminal: Terminal): Command {
  const context = new Command('context').description('list the contexts of the configuration file, or choose one');
  const list = new Command('list').description('list the contexts; * marks the current one');
  list.action(async () => {
    const flags: GlobalFlags = list.optsWithGlobals();
    const file = await configFileOf(flags, terminal);
    const current = flags.context ?? file.current;
    const all = [...file.contexts].map(([name, { address }]) => ({ name, address, isCurrent: name === current }));
    const lines =
      flags.output === 'json'
        ? all.map((one) => JSON.stringify({ type: 'context', context: one }))
        : table(
            ['', 'CONTEXT', 'ADDRESS'],
            all.map((one) => [one.isCurrent ? '*' : '', one.name, one.address.join(', ')]),
          );
    for (const line of lines) terminal.stdout.write(`${line}\n`);
  });
  const use = new Command('use').description('make this the current context').argument('<name>', 'the context');
  use.action(async (name: string) => {
    const file = await configFileOf(use.optsWithGlobals(), terminal);
    await file.use(name);
    terminal.stderr.write(`from now on: ${name}\n`);
  });
  return context.addCommand(list, { isDefault: true }).addCommand(use);
}
