/**
 * Monitors of all named sockets, as in an agent, in a process of their own: a test starts it and looks at its memory.
 * Each keeps its last answer. When its standard input ends it prints the results, and ends.
 */
import { Budget } from '../../../src/qmp/budget.ts';
import { Monitor } from '../../../src/qmp/monitor.ts';

const shared = process.argv[2] === 'shared' ? { budget: new Budget() } : {};
const kept = new Map<string, unknown>();
const monitors = process.argv.slice(3).map((path) => {
  const monitor = new Monitor({ path, ...shared });
  monitor.onState(({ is: state }) => {
    if (state !== 'connected') return;
    for (const execute of ['query-name', 'query-named-block-nodes'])
      monitor.execute({ execute }).then(
        (answer) => kept.set(path, answer),
        () => undefined,
      );
  });
  monitor.start();
  return { path, monitor };
});
process.stdout.write('started\n');
process.stdin.resume().on('end', () => {
  const connected = monitors.filter(({ monitor }) => monitor.state.is === 'connected').map(({ path }) => path);
  process.stdout.write(`${JSON.stringify({ maxRssBytes: process.resourceUsage().maxRSS * 1024, connected })}\n`);
  process.exit();
});
