/**
 * A real Prometheus asks real services with a real QEMU: their metrics, the alerts, and each query of the dashboard.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, monitorIn, present } from '../support/checks.ts';
import { DocPage } from '../support/doc-page.ts';
import { freePort } from '../support/fleet/etcd.ts';
import { needs } from '../support/means.ts';
import { Prometheus } from '../support/observers/prometheus.ts';
import { makeChain, type Qemu, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { stop } from '../support/real-qemu/while-stopped.ts';
import { byId, refused } from '../support/service/caller.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly refId: string; readonly expr: string; readonly legendFormat: string }[];
}

const dashboard = JSON.parse(readFileSync(join(REPOSITORY, 'deploy/grafana/blockjobd.json'), 'utf8')) as {
  readonly uid: string;
  readonly title: string;
  readonly schemaVersion: number;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string }[] };
};

const queries = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
/** Panels that need certificates. */
const OF_CERTIFICATES = 'Certificates';

/** Replaces the variables as Grafana does. */
function filledIn(expression: string): string {
  const values: Readonly<Record<string, string>> = { job: '.*', instance: '.*', __rate_interval: '1m' };
  return expression.replaceAll(/\$(\w+)/g, (_, name: string) => present(values[name], name));
}

describe('the dashboard', () => {
  test('can be imported by Grafana: panels with a place of their own, a query each, and its three variables', () => {
    expect(dashboard).toMatchObject({ uid: 'blockjobd', title: 'blockjobd', schemaVersion: 38 });
    expect(dashboard.templating.list.map(({ name }) => name)).toEqual(['datasource', 'job', 'instance']);
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
    const taken = new Set<string>();
    for (const { type, title, description, gridPos, targets } of dashboard.panels) {
      const { x, y, w, h } = gridPos;
      expect(x + w).toBeLessThanOrEqual(24);
      for (let column = x; column < x + w; column += 1) {
        for (let line = y; line < y + h; line += 1) {
          expect(taken.has(`${column},${line}`), title).toBe(false);
          taken.add(`${column},${line}`);
        }
      }
      if (type === 'row') continue;
      expect(description, title).not.toBe('');
      expect(present(targets, title).every(({ expr, legendFormat }) => expr !== '' && legendFormat !== '')).toBe(true);
    }
  });
});

describe.skipIf(needs('prometheus'))('promtool', () => {
  const [commands = ''] = new DocPage('metrics.md').section('Alerts and dashboard').commands;

  test.each(commands.split('\n'))('%s', async (command) => {
    const [program = '', ...args] = command.split(' ');
    const { stdout } = await run('env', ['-C', REPOSITORY, program, ...args]);
    expect(stdout).toContain('SUCCESS');
  });

  test('accepts the shown configuration', async () => {
    const { stdout } = await run('promtool', ['check', 'config', join(REPOSITORY, 'deploy/prometheus/prometheus.yml')]);
    expect(stdout).toContain('SUCCESS');
  });
});

describe.skipIf(needs('qemu', 'prometheus'))('a Prometheus that asks an agent and a gateway', () => {
  const opened = new AsyncDisposableStack();
  let dir: string;
  let qemu: Qemu;
  let [agent, gateway]: [Service, Service] = [] as never;
  let ports: Readonly<Record<'blockjobd-agent' | 'blockjobd-gateway', number>>;
  let prometheus: Prometheus;
  let ready: string;

  const copyOf = (disk: string) => {
    const target = { $case: 'file', value: join(dir, `copy-of-${disk}`) } as const;
    return { disk: { domain: 'vm1', disk }, destination: { target } };
  };

  /** Waits until the query has an answer: on a busy machine a scrape fails, and until the next one there is none. */
  async function answered(what: string, expression: string): Promise<void> {
    await eventually(
      `${what}: ${expression}`,
      async () => (await prometheus.query(expression)).length > 0 || undefined,
    );
  }

  /** Waits until the query has this value. */
  async function comes(expression: string, value: number | ((value: number) => boolean)): Promise<void> {
    let last: unknown = 'nothing';
    const isIt = (one: number) => (typeof value === 'number' ? one === value : value(one));
    const ask = async () => {
      const samples = await prometheus.query(expression);
      last = samples;
      return samples.some((sample) => isIt(Number(sample.value[1]))) || undefined;
    };
    await eventually(expression, ask, 40_000).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${JSON.stringify(last)}`, { cause: error });
    });
  }

  beforeAll(async () => {
    dir = opened.use(await testDir()).path;
    const sockets = join(dir, 'qmp');
    await mkdir(sockets);
    const chainOf = async (prefix: string) => await makeChain(dir, { prefix, formats: ['qcow2'], sizeBytes: 8 << 20 });
    const disks = [
      { id: 'vd0', bus: 'virtio-blk', chain: await chainOf('a') },
      { id: 'vd1', bus: 'virtio-blk', chain: await chainOf('b') },
    ] as const;
    qemu = opened.use(await startQemu({ style: 'blockdev', name: 'vm1', disks, extraArgs: monitorIn(sockets, 'vm1') }));
    const port = await freePort();
    ports = { 'blockjobd-agent': await freePort(), 'blockjobd-gateway': await freePort() };
    const metrics = (job: keyof typeof ports) => ['--metrics', `127.0.0.1:${ports[job]}`];
    const host = ['agent', '--host-name', 'h1', '--listen', `127.0.0.1:${port}`, '--state-dir', join(dir, 'state')];
    const qemus = ['--qmp-dir', sockets, '--allow-destination', dir];
    agent = opened.use(await Service.run([...host, ...qemus, ...metrics('blockjobd-agent')]));
    const hosts = join(dir, 'hosts.json');
    await writeFile(hosts, JSON.stringify({ hosts: { h1: { address: `127.0.0.1:${port}` } } }));
    const args = ['gateway', '--listen', '127.0.0.1:0', '--hosts', hosts, ...metrics('blockjobd-gateway')];
    gateway = opened.use(await Service.run(args));
    await gateway.domainUp('vm1');
    prometheus = opened.use(
      await Prometheus.start(dir, {
        'blockjobd-agent': `127.0.0.1:${ports['blockjobd-agent']}`,
        'blockjobd-gateway': `127.0.0.1:${ports['blockjobd-gateway']}`,
      }),
    );
    // Events before the first scrape are not an increase.
    await comes('sum(blockjob_jobs_ended_total)', 0);
  });
  afterAll(async () => await opened.disposeAsync());

  test('shows a job that starts, becomes READY, pivots and ends, and its copied bytes', async () => {
    const { id } = await gateway.startCopy(copyOf('vd0'));
    await gateway.until(id, 'STATE_READY');
    await comes('blockjob_jobs{kind="COPY", state="READY"}', 1);
    await comes('blockjob_longest_ready_seconds', (seconds) => seconds > 0 && seconds < 60);
    await comes('blockjob_jobs_convergence{convergence="SETTLED"}', 1);
    await gateway.abort({ job: byId(id), pivot: true });
    const ended = 'blockjob_jobs_ended_total{kind="COPY", state="COMPLETED", outcome="COMPLETE"}';
    await comes(ended, 1);
    await comes('blockjob_ready_to_pivot_seconds_count', 1);
    await comes('sum(blockjob_jobs)', 0);
    await comes('blockjob_copied_bytes_total', (bytes) => bytes > 0);
    // All bytes that QEMU looked at, and no byte twice.
    const [copied] = await prometheus.query('blockjob_copied_bytes_total');
    expect(Number(copied?.value[1])).toBeLessThanOrEqual(8 << 20);
    await comes('blockjob_qmp_command_seconds_count{command="blockdev-mirror"}', 1);
    await comes('blockjob_journal_sync_seconds_count', (count) => count >= 10);
    await comes('blockjob_grpc_calls_total{job="blockjobd-gateway", method="Abort", code="OK"}', 1);
    await comes('blockjob_grpc_calls_total{job="blockjobd-agent", method="Abort", code="OK"}', 1);
    await comes('blockjob_upstream_calls_total{method="Abort", code="OK"}', 1);
    await refused(gateway.getInfo('nothing'));
    await comes('blockjob_grpc_calls_total{job="blockjobd-gateway", method="GetInfo", code="NOT_FOUND"}', 1);
  });

  test('shows the watchers, and the one stream that they share', async () => {
    ready = (await gateway.startCopy(copyOf('vd1'))).id;
    await gateway.until(ready, 'STATE_READY');
    const watches = [gateway.watch(ready, 0), gateway.watch(ready, 0)];
    await Promise.all(watches.map(async (watch) => await watch.next()));
    await comes('blockjob_watchers{job="blockjobd-gateway"}', 2);
    await comes('blockjob_upstream_watches', 1);
    await comes('blockjob_watchers{job="blockjobd-agent"}', 1);
    expect(await prometheus.query('blockjob_upstream_watches != 1')).toEqual([]);
    await Promise.all(watches.map(async (watch) => await watch.return(undefined)));
    await comes('blockjob_watchers{job="blockjobd-gateway"}', 0);
    await comes('blockjob_watchers{job="blockjobd-agent"}', 0);
  });

  test('gets an answer to each query of the dashboard', async () => {
    expect(queries.length).toBeGreaterThan(30);
    for (const { title, expr } of queries.filter((one) => one.title !== OF_CERTIFICATES)) {
      await answered(title, filledIn(expr));
    }
    for (const { expr } of queries.filter((one) => one.title === OF_CERTIFICATES)) {
      expect(await prometheus.query(filledIn(expr))).toEqual([]);
    }
  });

  test('evaluates each alert; each one has data to look at, and none fires', async () => {
    const rules = await eventually('the rules', async () => {
      const all = await prometheus.rules();
      return all.length > 0 && all.every(({ health }) => health !== 'unknown') ? all : undefined;
    });
    expect(rules.map(({ health, lastError }) => lastError ?? health)).toEqual(rules.map(() => 'ok'));
    for (const { name, query } of rules) {
      const selected = [...query.matchAll(/(?:\bblockjob_\w+|\bup)(?:\{[^}]*\})?/g)].map(([selector]) => selector);
      expect(selected.length, name).toBeGreaterThan(0);
      for (const selector of selected) await answered(name, selector);
    }
    // The write speed of this machine is not part of the test; and a scrape that fails is a trouble until the next one.
    await eventually('no alert', async () => {
      const told = (await prometheus.rules()).filter(({ state }) => state !== 'inactive').map(({ name }) => name);
      return told.every((name) => name === 'BlockjobdJournalSlow') || undefined;
    });
  });

  test('finds nothing that promtool complains about', async () => {
    for (const port of Object.values(ports)) {
      const answer = await fetch(`http://127.0.0.1:${port}/metrics`);
      expect(answer.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
      const checked = spawnSync('promtool', ['check', 'metrics'], { input: await answer.text(), encoding: 'utf8' });
      expect(checked).toMatchObject({ status: 0, stdout: '', stderr: '' });
    }
  });

  test('shows a QEMU that ends, and a host whose agent goes away and comes back', async () => {
    await comes('blockjob_qmp_links{state="up"}', 1);
    await comes('blockjob_hosts{state="reachable"}', 1);
    await stop(agent.pid);
    // The host is asked, and has five seconds.
    expect((await gateway.listJobs()).unreachableHosts).toEqual(['h1']);
    await comes('blockjob_hosts{state="unreachable"}', 1);
    await comes('blockjob_directory_up{job="blockjobd-gateway"}', 0);
    await comes('up{job="blockjobd-agent"}', 0);
    process.kill(agent.pid, 'SIGCONT');
    await comes('blockjob_hosts{state="unreachable"}', 0);
    await comes('blockjob_directory_up{job="blockjobd-gateway"}', 1);
    await gateway.abort({ job: byId(ready), force: true });
    process.kill(qemu.pid, 'SIGKILL');
    await comes('blockjob_qmp_links{state="up"}', 0);
  });
});

describe('the port of the metrics', () => {
  test('answers for /metrics, and for nothing else', async () => {
    await using dir = await testDir();
    const port = await freePort();
    const args = ['serve', '--listen', `unix:${dir.path}/s`, '--state-dir', dir.path, '--qmp', `vm=${dir.path}/none`];
    await using _service = await Service.run([...args, '--metrics', `127.0.0.1:${port}`]);
    const url = `http://127.0.0.1:${port}`;
    expect((await fetch(`${url}/metrics?x=1`)).status).toBe(200);
    expect((await fetch(`${url}/`)).status).toBe(404);
    expect((await fetch(`${url}/metrics`, { method: 'POST' })).status).toBe(405);
    expect(await (await fetch(`${url}/metrics`)).text()).toMatch(
      /^blockjob_build_info\{version="[^"]+",mode="embedded"\} 1$/m,
    );
  });
});
