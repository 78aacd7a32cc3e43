/** An observer that watches etcd from the beginning, on a machine of its own, and notes the time of each change. */
import type { ContainerMachine } from './machine.ts';

/** One change of one key. */
export interface Seen {
  readonly at: number;
  readonly revision: number;
  readonly key: string;
  /** Undefined if it was deleted. */
  readonly value: Readonly<Record<string, string>> | undefined;
}

interface WatchAnswer {
  readonly Events?: readonly {
    /** Absent for put; 1 for delete. */
    readonly type?: number;
    readonly kv: { readonly key: string; readonly mod_revision: number; readonly value?: string };
  }[];
}

const ROOT = '/blockjob/v1/';

/** Its command: each line is etcdctl's output, after the time in milliseconds. */
export const WATCH = `echo watching
etcdctl watch --prefix ${ROOT} --rev 1 --write-out json |
while read -r line; do echo "$(date +%s%3N) $line"; done`;

export class Observer {
  readonly #machine: ContainerMachine;

  constructor(machine: ContainerMachine) {
    this.#machine = machine;
  }

  /** After a long absence of etcd: the longer it was, the longer etcdctl waits before it tries again. */
  async watchAgain(): Promise<void> {
    await this.#machine.exec('sh', '-c', `(${WATCH}) >/proc/1/fd/1 2>&1 &`);
  }

  /** All changes up to now, in the order in which they were seen. */
  async seen(): Promise<readonly Seen[]> {
    const lines = (await this.#machine.logs()).split('\n').filter((line) => /^\d+ \{/.test(line));
    const all = new Map<string, Seen>();
    for (const one of lines.flatMap(changesIn)) {
      const id = `${one.key} ${one.revision}`;
      if (!all.has(id)) all.set(id, one);
    }
    return [...all.values()].toSorted((one, other) => one.revision - other.revision);
  }

  /** The changes of a host's entry. */
  async ofHost(name: string): Promise<readonly Seen[]> {
    return (await this.seen()).filter(({ key }) => key === `hosts/${name}`);
  }

  /** All owners that a domain has had. Between two of them it may have none. */
  async ownersOf(id: string): Promise<readonly { readonly host: string | undefined; readonly since: number }[]> {
    const changes = (await this.seen()).filter(({ key, value }) => key === `domains/${id}` && value !== undefined);
    return changes.map(({ value, at }) => ({ host: value?.['host'], since: at }));
  }
}

/** The changes in a line of its output. */
function changesIn(line: string): readonly Seen[] {
  const [, at = '', json = ''] = /^(\d+) (.*)$/.exec(line) ?? [];
  const { Events = [] } = JSON.parse(json) as WatchAnswer;
  return Events.map(({ type, kv }): Seen => {
    const text = Buffer.from(kv.value ?? '', 'base64').toString();
    return {
      at: Number(at),
      revision: kv.mod_revision,
      key: Buffer.from(kv.key, 'base64').toString().slice(ROOT.length),
      value: type === 1 ? undefined : (JSON.parse(text) as Record<string, string>),
    };
  });
}
