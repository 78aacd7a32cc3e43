/** A host of a fleet under test: its QEMUs, its agent, and the journals, which exist whether or not the agent runs. */
import type { JournalEntry } from '../../../src/core/job/journal-entry.ts';
import { eventuallyAnswers } from './eventually-answers.ts';
import type { ContainerMachine } from './machine.ts';
import { agentOf, slowLines } from './roles.ts';

export interface Vm {
  readonly name: string;
  readonly uuid: string;
}

/** A job, from its journal. */
export interface Journaled {
  readonly host: string;
  readonly job: string;
  readonly entries: readonly JournalEntry[];
}

export class Host {
  readonly machine: ContainerMachine;
  readonly vms: readonly [Vm, Vm];

  constructor(machine: ContainerMachine, vms: readonly [Vm, Vm]) {
    this.machine = machine;
    this.vms = vms;
  }

  get name(): string {
    return this.machine.name;
  }

  async startAgent(args = agentOf(this.name)): Promise<void> {
    await this.machine.exec('sh', '/opt/machine/agent.sh', ...args);
  }

  /** As startAgent(), with a delay for all messages to and from it and etcd. */
  async startFarAgent(ms: number): Promise<void> {
    const lines = ['node', '/opt/machine/slow.mjs', String(ms), ...slowLines()].join(' ');
    await this.machine.exec('sh', '-c', `${lines} >/var/log/blockjobd/slow 2>&1 </dev/null &`);
    await this.startAgent(agentOf(this.name, { slow: true }));
  }

  async signalAgent(signal: 'KILL' | 'STOP' | 'CONT' | 'TERM'): Promise<void> {
    await this.machine.exec('sh', '-c', `kill -${signal} $(cat /run/agent.pid)`);
  }

  /** Starts one more QEMU, on an existing disk; resolves when it takes commands. */
  async startQemu({ name, uuid }: Vm, disk: string, ...more: readonly string[]): Promise<void> {
    const command = ['sh', '/opt/machine/qemu.sh', name, uuid, disk, ...more].join(' ');
    await this.machine.exec('sh', '-c', `${command} >/var/log/blockjobd/${name}.qemu 2>&1 </dev/null &`);
    await eventuallyAnswers(`QEMU ${name} takes commands`, 20_000, async () => await this.ask(name, 'query-status'));
  }

  async ask<T>(vm: string, command: string, args: object = {}): Promise<T> {
    return JSON.parse(
      await this.machine.exec('node', '/opt/machine/ask-qemu.mjs', vm, command, JSON.stringify(args)),
    ) as T;
  }

  /** The file that the guest writes to, as QEMU reports it. */
  async imageOf(vm: string): Promise<string> {
    const blocks = await this.ask<{ qdev?: string; inserted?: { image: { filename: string } } }[]>(vm, 'query-block');
    return blocks.find(({ qdev }) => qdev?.includes('virtio0'))?.inserted?.image.filename ?? '';
  }

  /** The kinds of QEMU's present block jobs. */
  async jobsOf(vm: string): Promise<readonly string[]> {
    return (await this.ask<{ type: string }[]>(vm, 'query-jobs')).map(({ type }) => type);
  }

  /** Writes bytes as a guest would, through its own disk; they are on the image when this returns. */
  async write(vm: string, byte: number, offset: string, length: string): Promise<void> {
    for (const command of [`write -P ${byte} ${offset} ${length}`, 'flush']) {
      const line = `qemu-io -d /machine/peripheral/virtio0/virtio-backend "${command}"`;
      await this.ask(vm, 'human-monitor-command', { 'command-line': line });
    }
  }

  /** Rejects unless an image, which a QEMU may have open, has these bytes there. */
  async expectBytes(image: string, byte: number, offset: string, length: string): Promise<void> {
    const said = await this.machine.exec(
      'qemu-io',
      '-U',
      '-r',
      '-f',
      'qcow2',
      '-c',
      `read -P ${byte} ${offset} ${length}`,
      image,
    );
    if (/verification failed/i.test(said)) throw new Error(`${image} at ${offset}: ${said}`);
  }

  async journals(): Promise<readonly Journaled[]> {
    const text = await this.machine.exec('sh', '-c', 'cat /var/lib/blockjobd/jobs/*.jsonl 2>/dev/null || true');
    const entries = new Map<string, JournalEntry[]>();
    let job = '';
    for (const line of text.split('\n').filter((one) => one !== '')) {
      // A checksum comes first.
      const entry = JSON.parse(line.slice(line.indexOf(' '))) as JournalEntry;
      if (entry.entry === 'accepted') job = entry.job;
      entries.set(job, [...(entries.get(job) ?? []), entry]);
    }
    return [...entries].map(([id, its]) => ({ host: this.name, job: id, entries: its }));
  }

  /** The last time at which its agent logged this, in milliseconds. */
  async saidAt(message: string): Promise<number> {
    const log = await this.machine.exec('grep', '-F', `"msg":"${message}"`, '/var/log/blockjobd/log');
    return (JSON.parse(log.split('\n').at(-1) ?? '') as { time: number }).time;
  }

  async logs(): Promise<string> {
    return await this.machine.exec('sh', '-c', 'tail -n 60 /var/log/blockjobd/*');
  }
}
