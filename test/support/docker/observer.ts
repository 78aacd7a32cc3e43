/** Whoever watches etcd from the beginning, on a machine of its own, and notes at which time each change was seen. */
import type { Machine } from './machine.ts';

/** One change of one key. */
export interface Seen {
  readonly at: number;
  readonly revision: number;
  readonly key: string;
  /** Undefined: it was deleted. */
  readonly value: Readonly<Record<string, string>> | undefined;
}

interface WatchAnswer {
  readonly Events?: readonly {
    /** Absent: put; 1: delete. */
    readonly type?: number;
    readonly kv: { readonly key: string; readonly mod_revision: number; readonly value?: string };
  }[];
}

const ROOT = '/blockjob/v1/';

/** Its command: each line is what etcdctl says, after the time in milliseconds. */
export const WATCH = `echo watching
etcdctl watch --prefix ${ROOT} --rev 1 --write-out json |
while read -r line; do echo "$(date +%s%3N) $line"; done`;

export class Observer {
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** All changes up to now, in order. */
  async seen(): Promise<readonly Seen[]> {
    const lines = (await this.#machine.logs()).split('\n').filter((line) => /^\d+ \{/.test(line));
    return lines.flatMap((line) => {
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
    });
  }

  /** The changes of a host's entry. */
  async ofHost(name: string): Promise<readonly Seen[]> {
    return (await this.seen()).filter(({ key }) => key === `hosts/${name}`);
  }

  /** All owners that a domain has had. Between two of them it may be nobody's. */
  async ownersOf(id: string): Promise<readonly { readonly host: string | undefined; readonly since: number }[]> {
    const changes = (await this.seen()).filter(({ key, value }) => key === `domains/${id}` && value !== undefined);
    return changes.map(({ value, at }) => ({ host: value?.['host'], since: at }));
  }
}
