/**
 * The end of a test run, from Vitest's JSON report: each test that failed, and last the numbers of results, because
 * of a long output often only the last lines are kept. Exits 1 when a test failed or none ran.
 */
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    /** The reason why the file could not be loaded, or why its hooks failed. */
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly duration?: number | null;
      readonly failureMessages?: readonly string[] | null;
    }[];
  }[];
}

const MOST_CHARACTERS = 400;

function short(message: string): string {
  const [first = '', ...more] = message.slice(0, MOST_CHARACTERS).split('\n');
  return [first, ...more.filter((line) => line.trim() !== '' && !line.includes('node_modules'))].join('\n      ');
}

const [, , path = ''] = process.argv;
const report = JSON.parse(readFileSync(path, 'utf8')) as Report;
for (const { name, status, message, assertionResults } of report.testResults) {
  const wrong = assertionResults.filter((test) => test.status === 'failed');
  if (status === 'failed' && message !== '') process.stdout.write(`FAILED ${relative('.', name)}: ${short(message)}\n`);
  for (const { fullName, duration, failureMessages } of wrong) {
    const seconds = Math.round((duration ?? 0) / 1000);
    process.stdout.write(`FAILED ${relative('.', name)}: ${fullName} (${seconds} s)\n`);
    for (const text of failureMessages ?? []) process.stdout.write(`    - ${short(text)}\n`);
  }
}
// A file that cannot be loaded has no test that could fail.
const failed = Math.max(report.numFailedTests, report.success ? 0 : 1);
const skipped = report.numPendingTests === 0 ? '' : `, ${report.numPendingTests} skipped`;
process.stdout.write(`${report.numPassedTests} passed, ${failed} failed${skipped}\n`);
process.exitCode = failed > 0 || report.numPassedTests === 0 ? 1 : 0;
