/** A real Prometheus, with the configuration and the rules of deploy/prometheus, that asks often. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parse, stringify } from 'yaml';
import { freePort } from '../fleet/etcd.ts';
import { within } from '../real-qemu/qemu.ts';
import { REPOSITORY } from '../service/service.ts';

const FOLDER = join(REPOSITORY, 'deploy/prometheus');

interface Configuration {
  readonly scrape_configs: readonly { readonly job_name: string }[];
}

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [time: number, value: string];
}

export interface RuleState {
  readonly name: string;
  readonly health: string;
  readonly lastError?: string;
  readonly state: string;
  readonly query: string;
}

export class Prometheus implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #url: string;

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.#url = url;
  }

  /** `targets`: the targets of each job of the configuration, as HOST:PORT. */
  static async start(dir: string, targets: Readonly<Record<string, string>>): Promise<Prometheus> {
    const shown = parse(await readFile(join(FOLDER, 'prometheus.yml'), 'utf8')) as Configuration;
    const configuration = {
      ...shown,
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: [join(FOLDER, 'blockjobd.rules.yml')],
      scrape_configs: shown.scrape_configs.map((one) => ({
        ...one,
        static_configs: [{ targets: [targets[one.job_name]] }],
      })),
    };
    const file = join(dir, 'prometheus.yml');
    await writeFile(file, stringify(configuration));
    const address = `127.0.0.1:${await freePort()}`;
    const args = [`--config.file=${file}`, `--storage.tsdb.path=${dir}/data`, `--web.listen-address=${address}`];
    const child = spawn('prometheus', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const said: string[] = [];
    const serves = new Promise<void>((resolve, reject) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        said.push(line);
        if (line.includes('Server is ready')) resolve();
      });
      child.once('exit', (code) => reject(new Error(`prometheus ended with ${code}:\n${said.join('\n')}`)));
    });
    await within(60_000, 'the start of prometheus', serves);
    return new Prometheus(child, `http://${address}`);
  }

  /** Rejects with the error of the query. */
  async query(expression: string): Promise<readonly Sample[]> {
    return (await this.#get<{ result: Sample[] }>(`query?query=${encodeURIComponent(expression)}`)).result;
  }

  async rules(): Promise<readonly RuleState[]> {
    const { groups } = await this.#get<{ groups: { rules: RuleState[] }[] }>('rules');
    return groups.flatMap(({ rules }) => rules);
  }

  async #get<T>(path: string): Promise<T> {
    const answer = await fetch(`${this.#url}/api/v1/${path}`);
    const { status, data, error } = (await answer.json()) as { status: string; data: T; error?: string };
    if (status !== 'success') throw new Error(`${path}: ${error}`);
    return data;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }
}
