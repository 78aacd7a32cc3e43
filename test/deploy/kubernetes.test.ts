/**
 * The manifests of deploy/kubernetes are compared with the schemas of Kubernetes (values) and its types (no unknown
 * field), with the command line, and with our requirements for a pod.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DaemonSet } from 'kubernetes-models/apps/v1/DaemonSet';
import { Deployment } from 'kubernetes-models/apps/v1/Deployment';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget';
import { ConfigMap } from 'kubernetes-models/v1/ConfigMap';
import { Namespace } from 'kubernetes-models/v1/Namespace';
import { Service } from 'kubernetes-models/v1/Service';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { Policy } from '../../src/access/policy.ts';
import { present } from '../support/checks.ts';
import { toldBy } from '../support/fake-qemu/told.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { REPOSITORY } from '../support/service/service.ts';

const FOLDER = join(REPOSITORY, 'deploy/kubernetes');

/** The kinds, and the module that has the type of each. */
const KINDS = {
  'apps/v1/DaemonSet': (data: never) => new DaemonSet(data),
  'apps/v1/Deployment': (data: never) => new Deployment(data),
  'policy/v1/PodDisruptionBudget': (data: never) => new PodDisruptionBudget(data),
  'v1/ConfigMap': (data: never) => new ConfigMap(data),
  'v1/Namespace': (data: never) => new Namespace(data),
  'v1/Service': (data: never) => new Service(data),
} as const;

interface Manifest {
  readonly file: string;
  readonly kind: keyof typeof KINDS;
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

function isKind(text: string): text is Manifest['kind'] {
  return text in KINDS;
}

const manifests = readdirSync(FOLDER).flatMap((file) =>
  [...parseAllDocuments(readFileSync(join(FOLDER, file), 'utf8'))].map((document): Manifest => {
    for (const error of document.errors) throw error;
    const data = document.toJS() as Manifest['data'] & { readonly metadata: { readonly name: string } };
    const kind = `${String(data['apiVersion'])}/${String(data['kind'])}`;
    if (!isKind(kind)) throw new Error(`${file}: there is no ${kind} here`);
    return { file, kind, name: data.metadata.name, data };
  }),
);

function dataOf(kind: Manifest['kind'], name: string): never {
  return present(manifests.find((manifest) => manifest.kind === kind && manifest.name === name)).data as never;
}

const agent = new DaemonSet(dataOf('apps/v1/DaemonSet', 'blockjobd-agent'));
const gateway = new Deployment(dataOf('apps/v1/Deployment', 'blockjobd-gateway'));

test.each(manifests)('$file: $kind $name has the values that Kubernetes allows', ({ kind, data }) => {
  expect(() => KINDS[kind](data as never).validate()).not.toThrow();
});

test('no manifest has a field that Kubernetes does not know', async () => {
  const folder = join(REPOSITORY, '.cache/manifests');
  await mkdir(folder, { recursive: true });
  const typed = manifests.map(({ kind, data }) => {
    const name = present(kind.split('/').at(-1));
    return `({ ${JSON.stringify(data).slice(1, -1)} }) satisfies import('kubernetes-models/${kind}').I${name};\n`;
  });
  await writeFile(join(folder, 'manifests.ts'), typed.join(''));
  const options = { extends: '../../tsconfig.json', include: ['manifests.ts'], compilerOptions: { rootDir: '../..' } };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(options));
  const { stdout } = await run(join(REPOSITORY, 'node_modules/.bin/tsc'), ['-p', folder], { accept: [0, 1, 2] });
  expect(stdout).toBe('');
  await rm(folder, { recursive: true });
});

describe.each(['agent', 'gateway'] as const)('a pod of the %s', (mode) => {
  const { selector, template } = present({ agent, gateway }[mode].spec);
  const pod = present(template.spec);
  const container = present(pod.containers[0]);

  test('has only the rights that it needs', () => {
    expect(pod).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    });
    expect(present(pod.securityContext?.runAsUser)).toBeGreaterThan(0);
    expect(pod.containers).toHaveLength(1);
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    const writable = container.volumeMounts?.flatMap(({ readOnly, mountPath }) => (readOnly === true ? [] : mountPath));
    expect(writable).toEqual(mode === 'agent' ? ['/var/lib/images', '/var/lib/blockjobd'] : []);
    const images = container.volumeMounts?.find(({ mountPath }) => mountPath === '/var/lib/images');
    expect(images?.mountPropagation).toBe(mode === 'agent' ? 'HostToContainer' : undefined);
    expect([pod.hostPID, pod.hostNetwork]).toEqual(mode === 'agent' ? [true, true] : [undefined, undefined]);
  });

  test('gives the service valid options', async () => {
    const values: Readonly<Record<string, string>> = { NODE_NAME: 'node-a', NODE_IP: '10.0.0.1' };
    const args = present(container.args).map((arg) =>
      arg.replaceAll(/\$\((\w+)\)/g, (_, name: string) => present(values[name])),
    );
    expect(container.env?.map(({ name }) => name) ?? []).toEqual(mode === 'agent' ? Object.keys(values) : []);
    const told = await toldBy(args);
    expect(told).toMatchObject({
      mode,
      ...(mode === 'agent' ? { host: 'node-a', membership: { advertise: '10.0.0.1:50051' } } : {}),
    });
    expect(told.drainMs).toBeLessThan(1000 * present(pod.terminationGracePeriodSeconds));
    const portOf = (name: string) => container.ports?.find((port) => port.name === name)?.containerPort;
    expect(told.listen).toEqual({ host: '0.0.0.0', port: portOf('grpc') });
    expect(told.metrics).toEqual({ host: '0.0.0.0', port: portOf('metrics'), isAsked: true });
  });

  test('has all the files that its options and its probes name', () => {
    const folders = present(container.volumeMounts).map(({ mountPath }) => mountPath);
    const named = [...present(container.args), ...present(container.startupProbe?.exec?.command)]
      .map((text) => text.replace(/^--[a-z-]+=/, ''))
      .filter((text) => text.startsWith('/'));
    const absent = named.filter((path) => !folders.some((folder) => path === folder || path.startsWith(`${folder}/`)));
    expect(absent).toEqual(['/opt/blockjobd/deploy/health.js']);
    const volumes = pod.volumes?.map(({ name }) => name);
    expect(container.volumeMounts?.map(({ name }) => name)).toEqual(volumes);
  });

  test('uses the same program of the image in all probes', () => {
    const { startupProbe, readinessProbe, livenessProbe } = container;
    expect(readinessProbe?.exec).toEqual(startupProbe?.exec);
    expect(livenessProbe?.exec).toEqual(startupProbe?.exec);
  });

  test('belongs to its own set', () => {
    expect(template.metadata?.labels).toEqual(selector.matchLabels);
  });
});

test('the service and the disruption budget belong to the pods of the gateway', () => {
  const labels = gateway.spec?.selector.matchLabels;
  const service = new Service(dataOf('v1/Service', 'blockjobd-gateway')).spec;
  expect(service?.selector).toEqual(labels);
  expect(service?.ports?.[0]?.targetPort).toBe(gateway.spec?.template.spec?.containers[0]?.ports?.[0]?.name);
  const budget = new PodDisruptionBudget(dataOf('policy/v1/PodDisruptionBudget', 'blockjobd-gateway'));
  expect(budget.spec?.selector?.matchLabels).toEqual(labels);
});

test('the policy is valid', () => {
  const text = present(new ConfigMap(dataOf('v1/ConfigMap', 'blockjobd-policy')).data?.['policy.json']);
  expect(Policy.read(text)).toBeInstanceOf(Policy);
});
