/**
 * A process that logs as the service does, and reports its progress on standard output: a line of JSON for each step.
 */
import { writeSync } from 'node:fs';
import { openLog } from '../../../src/modes/log.ts';

const [count = '', then = ''] = process.argv.slice(2);
const { log, dropped } = openLog({ level: 'info' });

function fares(step: string): void {
  const { rss } = process.memoryUsage();
  writeSync(1, `${JSON.stringify({ step, rss, dropped: dropped(), ms: Math.round(performance.now() - began) })}\n`);
}

const began = performance.now();
const text = 'x'.repeat(400);
for (let n = 0; n < Number(count); n += 1) log.info({ n, text }, 'a line');
fares('written');
if (then === 'crash') {
  setImmediate(() => {
    log.info('the last line before the crash');
    throw new Error('a bug of a test', { cause: new Error('and its cause') });
  });
} else {
  // Until the test has read, or will not.
  process.stdin.on('data', () => {
    fares('asked');
    log.info('asked');
  });
  process.stdin.on('end', () => fares('ending'));
}
