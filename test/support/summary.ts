/**
 * The last line of a test run: the numbers of results, from Vitest's JSON report. Exits 1 when a test failed or none
 * ran.
 */
import { readFileSync } from 'node:fs';

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTotalTestSuites: number;
  readonly success: boolean;
}

const [, , path = ''] = process.argv;
const report = JSON.parse(readFileSync(path, 'utf8')) as Report;
// A file that cannot be loaded has no test that could fail.
const failed = Math.max(report.numFailedTests, report.success ? 0 : 1);
const skipped = report.numPendingTests === 0 ? '' : `, ${report.numPendingTests} skipped`;
process.stdout.write(`${report.numPassedTests} passed, ${failed} failed${skipped}\n`);
process.exitCode = failed > 0 || report.numPassedTests === 0 ? 1 : 0;
