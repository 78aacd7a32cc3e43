/**
 * docs/fleet.md and the renewal of docs/fleet-operations.md are carried out word for word: certificates, etcd, an agent
 * and a gateway as their units start them, and the first calls. Only names of other machines and system folders are
 * replaced.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, monitorIn, present } from '../support/checks.ts';
import { DocPage } from '../support/doc-page.ts';
import { freePort } from '../support/fleet/etcd.ts';
import { needs } from '../support/means.ts';
import { makeChain, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';

const MIB = 1 << 20;

const page = new DocPage('fleet.md');
const running = new DocPage('fleet-operations.md');
const [AUTHORITY = '', SIGN = '', CERTIFICATES = ''] = page.section('1. Certificates').commands;
const [ETCD = '', USERS = ''] = page.section('2. etcd').commands;
const [AGENT = ''] = page.section('3. An agent on each host').commands;
const [GATEWAY = ''] = page.section('4. Gateways').commands;
const [ASK = '', ...CALLS] = page.section('5. The first call').commands;
const [RENEW = ''] = running.section('Renewal').commands;

type Names = Readonly<Record<string, string>>;

function put(text: string, names: Names): string {
  return Object.entries(names).reduce((so, [theirs, ours]) => so.replaceAll(theirs, ours), text);
}

/** As systemd reads it: a line that ends with a backslash goes on. */
function valueIn(text: string, name: string): string {
  return present(new RegExp(`^${name}=(.*)$`, 'm').exec(text.replaceAll('\\\n', ' '))?.[1], name);
}

describe.skipIf(needs('qemu', 'etcd', 'by-hand'))('docs/fleet.md', () => {
  const opened = new AsyncDisposableStack();
  let pki: string;
  let ports: Readonly<Record<'etcd' | 'agent' | 'gateway', number>>;
  /** The names on all machines, and on each one. */
  let everywhere: Names;
  let hostA: Names;
  let gateway1: Names;
  let [agent, gateway]: [Service, Service] = [] as never;

  /** Runs a block of commands, in the folder of the authority. */
  async function shown(block: string, names: Names): Promise<string> {
    const script = put(`${SIGN}\n${ASK}\n${block}`, { ...names, ...everywhere });
    const PATH = `${join(REPOSITORY, 'node_modules/.bin')}:${process.env['PATH']}`;
    const { stdout } = await run('env', ['-C', pki, `PATH=${PATH}`, 'bash', '-euo', 'pipefail', '-c', script]);
    return stdout;
  }

  /** The command that systemd would start: ExecStart of the unit, with the OPTIONS of its environment file. */
  async function startUnit(mode: 'agent' | 'gateway', names: Names): Promise<Service> {
    const unit = await readFile(join(REPOSITORY, `deploy/systemd/blockjobd-${mode}.service`), 'utf8');
    const environment = await readFile(put(`/etc/blockjobd/${mode}.env`, names), 'utf8');
    const line = valueIn(unit, 'ExecStart').replace('$OPTIONS', valueIn(environment, 'OPTIONS'));
    const [, , ...args] = put(line, { ...names, ...everywhere }).split(/\s+/);
    return opened.use(await Service.run(args, { address: `localhost:${ports[mode]}` }));
  }

  /** The exit status of an orchestrator's probe. */
  async function health(port: number, folder: string): Promise<number | null> {
    const files = ['cert.pem', 'key.pem', 'ca.pem'].map((file) => join(pki, folder, file));
    const args = ['deploy/health.ts', `127.0.0.1:${port}`, ...files];
    return (await run(process.execPath, args, { accept: [0, 1] })).code;
  }

  /** The /etc/blockjobd of a machine, with its certificates. */
  async function machine(name: string, root: string): Promise<void> {
    await mkdir(join(root, 'etc'), { recursive: true });
    await cp(join(pki, name), join(root, 'etc/tls'), { recursive: true });
  }

  beforeAll(async () => {
    const { path: dir } = opened.use(await testDir());
    pki = join(dir, 'pki');
    await Promise.all(['pki', 'qemu', 'images'].map(async (name) => await mkdir(join(dir, name))));
    const [etcd, forAgent, forGateway] = await Promise.all([freePort(), freePort(), freePort()]);
    ports = { etcd, agent: forAgent, gateway: forGateway };
    everywhere = {
      '0.0.0.0:2379': `127.0.0.1:${etcd}`,
      'etcd1:2379': `localhost:${etcd}`,
      'host-a:50051': `localhost:${ports.agent}`,
      'gateway1:50051': `localhost:${ports.gateway}`,
      'DNS:etcd1': 'DNS:localhost',
      'DNS:gateway1': 'DNS:localhost',
      '/run/qemu': join(dir, 'qemu'),
      '/var/lib/images': join(dir, 'images'),
      '/var/lib/etcd': join(dir, 'etcd-data'),
      '/var/lib/blockjobd': join(dir, 'state'),
    };
    hostA = { '/etc/blockjobd': join(dir, 'host-a/etc'), '0.0.0.0:50051': `127.0.0.1:${ports.agent}` };
    gateway1 = { '/etc/blockjobd': join(dir, 'gateway1/etc'), '0.0.0.0:50051': `127.0.0.1:${ports.gateway}` };

    const chain = await makeChain(join(dir, 'images'), { prefix: 'web1', formats: ['qcow2'], sizeBytes: 8 * MIB });
    const disks = [{ id: 'disk0', bus: 'virtio-blk', chain }] as const;
    const extraArgs = [...monitorIn(join(dir, 'qemu'), 'web1'), '-uuid', '5d6a7a0e-6d4f-4a3e-9b1c-0f0e0d0c0b0a'];
    opened.use(await startQemu({ style: 'blockdev', name: 'web1', disks, extraArgs }));
  });
  afterAll(async () => await opened.disposeAsync());

  test('has no commands except those that are run here', () => {
    const all = [AUTHORITY, SIGN, CERTIFICATES, ETCD, USERS, AGENT, GATEWAY, ASK, ...CALLS, RENEW];
    expect(CALLS).toHaveLength(3);
    expect([...page.commands, ...running.commands]).toEqual(all);
  });

  test('1. certificates, from an authority of its own', async () => {
    await shown(AUTHORITY, {});
    await shown(CERTIFICATES, {});
    const said = await run('openssl', ['verify', '-CAfile', join(pki, 'ca.pem'), join(pki, 'ops/cert.pem')]);
    expect(said.stdout).toContain('OK');
  });

  test('2. etcd, which takes certificates only, and has users', async () => {
    const peer = `http://127.0.0.1:${await freePort()}`;
    const env = {
      PATH: process.env['PATH'] ?? '',
      ETCD_LISTEN_PEER_URLS: peer,
      ETCD_INITIAL_ADVERTISE_PEER_URLS: peer,
      ETCD_INITIAL_CLUSTER: `one=${peer}`,
    };
    const command = put(ETCD, everywhere);
    const etcd = spawn('bash', ['-c', `exec ${command}`], { cwd: pki, env, stdio: ['ignore', 'ignore', 'pipe'] });
    opened.defer(async () => {
      if (etcd.kill('SIGKILL')) await once(etcd, 'exit');
    });
    const log: string[] = [];
    etcd.stderr.setEncoding('utf8').on('data', (text: string) => log.push(text));
    await eventually('etcd serves', () => /serving client (requests|traffic)/.test(log.join('')) || undefined);
    expect(await shown(USERS, {})).toContain('Authentication Enabled');
  });

  test('3. the agent, as its unit starts it: it serves as soon as it is in the directory', async () => {
    await machine('host-a', join(hostA['/etc/blockjobd'] ?? '', '..'));
    await shown(AGENT, hostA);
    agent = await startUnit('agent', hostA);
    const saidAt = (message: string) => {
      const line = agent.log.split('\n').find((one) => one.includes(`"msg":"${message}"`));
      return (JSON.parse(present(line, message)) as { readonly time: number }).time;
    };
    expect(saidAt('Serving') - saidAt('This host is in the directory')).toBeLessThan(4000);
  });

  test('4. a gateway, as its unit starts it, and it says that it is healthy', async () => {
    await machine('gateway1', join(gateway1['/etc/blockjobd'] ?? '', '..'));
    await shown(GATEWAY, gateway1);
    gateway = await startUnit('gateway', gateway1);
    for (const folder of ['gateway1', 'host-a']) expect(await health(ports.gateway, folder)).toBe(0);
    expect(await health(await freePort(), 'gateway1')).toBe(1);
  });

  test('5. the first calls, with a certificate', async () => {
    const [list, copy, jobs] = CALLS;
    const listed = async () => {
      const text = await shown(present(list), {}).catch(() => '');
      return text === '' ? undefined : text;
    };
    expect(await eventually('the VM is in the directory', listed)).toBe('["web1","host-a"]\n');
    expect(await shown(present(copy), {})).toBe('["host-a","JOB_KIND_COPY"]\n');
    const ended = async () => {
      const text = await shown(present(jobs), {});
      return text.includes('STATE_COMPLETED') ? text : undefined;
    };
    expect(await eventually('the copy has ended', ended)).toBe('["host-a","STATE_COMPLETED"]\nnull\n');
    expect(gateway.log).toMatch(/"caller":"spiffe:\/\/site\/ops".*audit: StartCopy done/);
    expect(agent.log).toMatch(/"via":"spiffe:\/\/site\/gateway".*audit: StartCopy done/);
  });

  test('a caller that is not in the policy sees nothing', async () => {
    const asBackup = ASK.replaceAll('ops/', 'host-a/');
    await expect(shown(`${asBackup}\nask DomainService/GetDomain '{"domain": "web1"}'`, {})).rejects.toThrow(
      'DOMAIN_NOT_FOUND',
    );
  });

  test('renewal: the new certificate is used, without any interruption', async () => {
    await shown(RENEW, hostA);
    await eventually('it is read', () => agent.log.includes('The certificates have changed') || undefined);
    expect(await shown(present(CALLS[0]), {})).toBe('["web1","host-a"]\n');
  });
});
