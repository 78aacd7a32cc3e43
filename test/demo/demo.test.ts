/** `make demo` proves its claims, says so if it cannot, and leaves nothing however it ends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { needs } from '../support/means.ts';
import { isRunning, testDir } from '../support/real-qemu/qemu.ts';

interface Ended {
  readonly code: unknown;
  readonly output: string;
  /** The files that it has left in its temporary folder. */
  readonly left: readonly string[];
  /** Processes that it named, and that still run. */
  readonly alive: readonly number[];
}

interface Signal {
  readonly send: NodeJS.Signals;
  /** Sent when the output contains this. */
  readonly at: string;
  /** The service ends before the demo gets the signal: the order within a group is not known. */
  readonly serviceFirst?: boolean;
}

/** Runs the demo, and sends it `signal`. */
async function demo(args: readonly string[], signal?: Signal): Promise<Ended> {
  await using folder = await testDir('bj-d-');
  const env = { ...process.env, TMPDIR: folder.path };
  const script = join(import.meta.dirname, 'demo.ts');
  const child = spawn(process.execPath, [script, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let output = '';
  let sent = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (signal === undefined || sent || !output.includes(signal.at)) return;
      sent = true;
      // A terminal's Ctrl-C goes to all processes of the group, also to those that the demo has started.
      const send = (): true => process.kill((signal.send === 'SIGINT' ? -1 : 1) * (child.pid ?? 0), signal.send);
      if (signal.serviceFirst !== true) send();
      else void endOf(Number(/serves on .* process (\d+)/.exec(output)?.[1]), signal.send).then(send);
    });
  }
  const [code] = await once(child, 'close');
  const pids = [...output.matchAll(/process (\d+)/g)].map(([, pid]) => Number(pid));
  return { code, output, left: await readdir(folder.path), alive: pids.filter(isRunning) };
}

async function endOf(pid: number, signal: NodeJS.Signals): Promise<void> {
  process.kill(pid, signal);
  await vi.waitUntil(() => !isRunning(pid), { timeout: 60_000, interval: 1 });
}

describe.skipIf(needs('guest'))('make demo', { timeout: 300_000 }, () => {
  test('proves that a pivot under load loses nothing, in the two minutes of README', async () => {
    const { code, output, left, alive } = await demo([]);
    expect(output).toContain('ok   the guest saw no I/O error');
    expect(output).toMatch(/ok {3}new image: all of its 65536 blocks are right; \d+ operations were acknowledged/);
    expect(output).toContain('ok   old images: not one byte has changed since the pivot');
    expect(output).toMatch(/ok {3}old image: the same check fails there, as it must: [1-9]\d* blocks/);
    expect(output).not.toContain('FAIL');
    expect(output).toMatch(/RUNNING[^]* [2-9]\d % [^]*READY[^]*PIVOTING[^]*COMPLETED/);
    expect(output).toMatch(/guest_writes_to {6}\S*\/new\.qcow2\n/);
    expect(output).toMatch(/safe_to_delete {7}\S*snap2\.qcow2\n/);
    const seconds = /PROVED in (\d+) s/.exec(output)?.[1];
    expect(Number(seconds)).toBeLessThanOrEqual(120);
    expect({ code, left, alive }).toEqual({ code: 0, left: [], alive: [] });
  });

  test('fails, names the block, and keeps its folder, if one acknowledged block is lost', async () => {
    const { code, output, left, alive } = await demo(['--plant-loss']);
    const block = /planted: block (\d+) /.exec(output)?.[1];
    expect(output).toContain(`FAIL new image: 1 of 65536 blocks are WRONG\n        block ${block}: missing: `);
    expect(output).toMatch(/NOT PROVED: 1 of the proofs above failed\nKept for a look: \S*\/bj-demo-/);
    expect(output).not.toContain('\nPROVED');
    expect({ code, alive }).toEqual({ code: 1, alive: [] });
    expect(left).toEqual([expect.stringMatching(/^bj-demo-/)]);
  });

  test.each([
    { send: 'SIGTERM', at: 'Start a VM', code: 143 },
    { send: 'SIGINT', at: 'Start a VM', code: 130 },
    { send: 'SIGINT', at: 'RUNNING', code: 130 },
    { send: 'SIGTERM', at: 'PIVOTING', code: 143 },
    { send: 'SIGINT', at: 'prove', code: 130 },
    { send: 'SIGINT', at: 'RUNNING ', serviceFirst: true, code: 130 },
  ] satisfies (Signal & { code: number })[])(
    'ends everything at $send while it shows "$at"',
    async ({ code: expected, ...signal }) => {
      const { code, output, left, alive } = await demo([], signal);
      expect(output).not.toContain('PROVED');
      expect({ code, left, alive }).toEqual({ code: expected, left: [], alive: [] });
    },
  );
});
