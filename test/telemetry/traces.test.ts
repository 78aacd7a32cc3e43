/** Traces of real processes, received by a collector: client → gateway → agent → QMP, and none by default. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Metadata } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { StartCopyRequest, type StartCopyResponse } from '../../generated/blockjob/v1/block_job_service.ts';
import { eventually, monitorIn, present } from '../support/checks.ts';
import { freePort } from '../support/fleet/etcd.ts';
import { needs } from '../support/means.ts';
import { type CollectedSpan, OtlpCollector } from '../support/observers/otlp-collector.ts';
import { makeChain, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { byId, jobOf, refused } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const CALLER = 'b7ad6b7169203331';

const lineOf = ({ service, kind, name }: CollectedSpan) => `${service} ${kind} ${name}`;
const isRefusal = ({ name, status }: CollectedSpan) => name === 'StartCopy' && status?.code === 2;

describe.skipIf(needs('qemu'))('with the standard variables set', () => {
  const opened = new AsyncDisposableStack();
  let dir: string;
  let collector: OtlpCollector;
  let [agent, gateway]: [Service, Service] = [] as never;
  let copies = 0;

  beforeAll(async () => {
    dir = opened.use(await testDir()).path;
    const sockets = join(dir, 'qmp');
    await mkdir(sockets);
    const chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: 4 << 20 });
    const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
    opened.use(await startQemu({ style: 'blockdev', name: 'vm1', disks, extraArgs: monitorIn(sockets, 'vm1') }));
    collector = opened.use(await OtlpCollector.start());
    const port = await freePort();
    const host = ['agent', '--host-name', 'h1', '--listen', `127.0.0.1:${port}`, '--state-dir', join(dir, 'state')];
    // The agent's name comes from the variable, the gateway's is the default.
    const env = { ...collector.variables, OTEL_SERVICE_NAME: 'the-agent' };
    agent = opened.use(await Service.run([...host, '--qmp-dir', sockets, '--allow-destination', dir], { env }));
    const hosts = join(dir, 'hosts.json');
    await writeFile(hosts, JSON.stringify({ hosts: { h1: { address: `127.0.0.1:${port}` } } }));
    const args = ['gateway', '--listen', '127.0.0.1:0', '--hosts', hosts];
    gateway = opened.use(await Service.run(args, { env: collector.variables }));
    await gateway.domainUp('vm1');
  });
  afterAll(async () => await opened.disposeAsync());

  const request = () => {
    const target = { $case: 'file', value: join(dir, `copy-${(copies += 1)}`) } as const;
    return StartCopyRequest.fromPartial({ disk: { domain: 'vm1', disk: 'vd0' }, destination: { target } });
  };

  /** As a client that traces, too. */
  async function startTraced(): Promise<string> {
    const metadata = new Metadata();
    metadata.set('traceparent', `00-${TRACE}-${CALLER}-01`);
    const started = await new Promise<StartCopyResponse>((resolve, reject) => {
      gateway.blockJobs.startCopy(request(), metadata, (error, answer) => {
        if (error === null) resolve(answer);
        else reject(error);
      });
    });
    return jobOf(started).id;
  }

  test('a StartCopy is one tree: client, gateway, agent, the steps of the job, and QMP', async () => {
    const id = await startTraced();
    await collector.received('the gateway’s span', ({ parentSpanId }) => parentSpanId === CALLER);
    // Progress is polled meanwhile, the job continues and ends: none of that belongs to the caller.
    await gateway.until(id, 'STATE_READY');
    await gateway.abort({ job: byId(id) });
    await collector.received('a later span', ({ name, service }) => name === 'Abort' && service === 'the-agent');

    const spans = collector.spans.filter(({ traceId }) => traceId === TRACE);
    const below = (parent: string) => spans.filter(({ parentSpanId }) => parentSpanId === parent);
    const only = (parent: string) => {
      const [found, ...more] = below(parent);
      expect(more).toEqual([]);
      return present(found);
    };
    const atGateway = only(CALLER);
    expect(lineOf(atGateway)).toBe('blockjobd SERVER StartCopy');
    const toAgent = only(atGateway.spanId);
    expect(lineOf(toAgent)).toBe('blockjobd CLIENT StartCopy');
    expect(toAgent.attributes['server.address']).toBe('h1');
    const atAgent = only(toAgent.spanId);
    expect(lineOf(atAgent)).toBe('the-agent SERVER StartCopy');
    const parts = below(atAgent.spanId);
    expect(parts.map(lineOf)).toContain('the-agent CLIENT QMP query-blockstats');
    const steps = parts.filter(({ name }) => name.startsWith('step '));
    expect(steps.every(({ attributes }) => attributes['blockjob.job'] === id)).toBe(true);
    const commands = steps.flatMap(({ spanId }) => below(spanId).map(({ name }) => name));
    expect(commands).toEqual(expect.arrayContaining(['QMP blockdev-add', 'QMP blockdev-mirror']));
    expect(parts.map(({ name }) => name)).toContain('journal sync');

    // All of them are in that tree, and within it in time, as far as their clocks show: a span begins at a whole
    // millisecond.
    const known = new Set([CALLER, ...spans.map(({ spanId }) => spanId)]);
    expect(spans.filter(({ parentSpanId }) => !known.has(parentSpanId ?? ''))).toEqual([]);
    const late = spans.filter((span) => BigInt(span.endTimeUnixNano) > BigInt(atGateway.endTimeUnixNano) + 20_000_000n);
    expect(late.map(lineOf)).toEqual([]);
  });

  test('work that no caller has asked for has no span: no command to QEMU without one above it', () => {
    const roots = collector.spans.filter(({ parentSpanId = '' }) => parentSpanId === '');
    expect(roots.length).toBeGreaterThan(0);
    expect(roots.filter(({ kind }) => kind !== 'SERVER').map(lineOf)).toEqual([]);
    const watches = collector.spans.filter(({ name }) => name === 'WatchJob').map(({ spanId }) => spanId);
    expect(watches.length).toBeGreaterThan(0);
    expect(collector.spans.filter(({ parentSpanId = '' }) => watches.includes(parentSpanId))).toEqual([]);
  });

  test('the lines of the log that belong to a call have its trace and span', async () => {
    for (const service of [gateway, agent]) {
      const line = service.log.split('\n').find((one) => one.includes('audit: StartCopy done'));
      const span = collector.spans.find(
        (one) =>
          one.traceId === TRACE && one.kind === 'SERVER' && (one.service === 'the-agent') === (service === agent),
      );
      expect(JSON.parse(present(line))).toMatchObject({ trace_id: TRACE, span_id: span?.spanId });
      const serving = service.log.split('\n').find((one) => one.includes('"msg":"Serving"'));
      expect(JSON.parse(present(serving))).not.toHaveProperty('trace_id');
    }
    // The job outlives the call.
    const ended = agent.log.split('\n').find((one) => one.includes('"msg":"The job has ended"'));
    expect(JSON.parse(present(ended))).not.toHaveProperty('trace_id');
  });

  test('a call that is refused is a span that says so', async () => {
    await refused(gateway.startCopy({ ...request(), disk: { domain: 'nowhere', disk: 'vd0' } }));
    await collector.received('the refusal', isRefusal);
    expect(collector.spans.find(isRefusal)).toMatchObject({
      status: { message: expect.stringContaining('DOMAIN_NOT_FOUND') },
      attributes: { 'error.type': 'NOT_FOUND' },
    });
  });
});

/** The command line of a service without a QEMU. */
function alone(dir: string): readonly string[] {
  return ['serve', '--listen', `unix:${dir}/s`, '--state-dir', dir, '--qmp', `vm=${dir}/none`];
}

/** The modules of OpenTelemetry that a service has loaded, as V8 reports when it has ended. */
async function loadedWith(env: Readonly<Record<string, string>>): Promise<readonly string[]> {
  await using dir = await testDir();
  const coverage = join(dir.path, 'coverage');
  const service = await Service.run(alone(dir.path), {
    env: { ...env, NODE_V8_COVERAGE: coverage },
    program: [process.execPath, 'src/main.ts'],
  });
  expect(await service.stop()).toBe(0);
  const [file] = await readdir(coverage);
  const { result } = JSON.parse(await readFile(join(coverage, present(file)), 'utf8')) as {
    readonly result: readonly { readonly url: string }[];
  };
  expect(result.some(({ url }) => url.endsWith('src/modes/telemetry.ts'))).toBe(true);
  // Its API alone does nothing, and prom-client requires it.
  return result.map(({ url }) => url).filter((url) => /@opentelemetry\/(?!api\/)|src\/tracing\//.test(url));
}

describe('OpenTelemetry', () => {
  test('is not loaded without the standard variables, nor with them if it is disabled', async () => {
    expect(await loadedWith({})).toEqual([]);
    const asked = { OTEL_TRACES_EXPORTER: 'console' };
    expect(await loadedWith({ ...asked, OTEL_SDK_DISABLED: 'true' })).toEqual([]);
    expect((await loadedWith(asked)).length).toBeGreaterThan(10);
  });

  test('does not delay the end if the collector is down, and logs that', async () => {
    await using dir = await testDir();
    const nobody = { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${await freePort()}` };
    const patient = await Service.run(alone(dir.path), { env: nobody });
    await patient.listDomains();
    const asked = performance.now();
    expect(await patient.stop()).toBe(0);
    // The exporter's own limit is ten seconds.
    expect(performance.now() - asked).toBeLessThan(7000);

    const hasty = { ...nobody, OTEL_BSP_SCHEDULE_DELAY: '50', OTEL_EXPORTER_OTLP_TIMEOUT: '500' };
    await using service = await Service.run(alone(dir.path), { env: hasty });
    await service.listDomains();
    await eventually('the complaint', () => service.log.includes('"msg":"Traces cannot be exported"') || undefined);
  });
});
