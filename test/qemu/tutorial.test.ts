/** The commands of docs/tutorial.md are run word for word, one after the other, in a folder of the test. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DestinationContent, type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { present } from '../support/checks.ts';
import { DocPage } from '../support/doc-page.ts';
import { needs } from '../support/means.ts';
import { run, testDir } from '../support/real-qemu/qemu.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';

const page = new DocPage('tutorial.md');
const [IMAGE = '', VM = ''] = page.section('1. A disk and a VM').commands;
const [SERVE = '', LOOK = ''] = page.section('2. The service').commands;
const [COPY = '', ASK = ''] = page.section('3. The copy').commands;
const [PIVOT = ''] = page.section('4. The pivot').commands;
const [SLOWLY = '', RESUME = ''] = page.section('5. What if the service dies?').commands;
const [CALLS = ''] = page.section('6. The same from a program').commands;
const [END = ''] = page.section('7. Clean up').commands;

/** The installed programs, and grpcurl's arguments, as far as the page uses them, translated for buf. */
const COMMANDS = `set -euo pipefail
blockjob() { ${join(REPOSITORY, 'bin/blockjob')} "$@"; }
grpcurl() {
  [ "$1 $2" = "-plaintext -d" ] || return 9
  buf curl --protocol grpc --http2-prior-knowledge -d "$3" "http://$4/$5"
}`;

const opened = new AsyncDisposableStack();
let folder: string;
let service: Service;

function here(text: string): string {
  return text.replaceAll('/tmp/blockjob-tutorial', folder);
}

async function shown(script: string): Promise<string> {
  const address = (service as Service | undefined)?.address ?? '';
  const environment = `export PATH=${join(REPOSITORY, 'node_modules/.bin')}:$PATH BLOCKJOB_ADDRESS=${address}`;
  const text = here(script).replaceAll('127.0.0.1:50051', address);
  return (await run('bash', ['-c', [environment, COMMANDS, text].join('\n')])).stdout;
}

/** The job in the output of a command. */
async function jobIn(text: string): Promise<Job> {
  return await service.getInfo(present(/\bbj[0-9a-f]{16}\b/.exec(text)?.[0]));
}

async function serve(): Promise<Service> {
  const [program, ...options] = here(SERVE).replaceAll('\\\n', ' ').split(/\s+/);
  expect(program).toBe('blockjobd');
  return opened.use(await Service.run([...options, '--listen', '127.0.0.1:0']));
}

describe.skipIf(needs('qemu', 'by-hand'))('docs/tutorial.md', () => {
  beforeAll(async () => {
    const dir = opened.use(await testDir());
    folder = join(dir.path, 'it');
    await shown(IMAGE);
    await shown(VM);
    opened.defer(async () => void (await shown(`${END} 2>/dev/null || true`)));
    service = await serve();
    await service.domainUp('web1');
  });
  afterAll(async () => await opened.disposeAsync());

  test('has no commands except those that are run here', () => {
    expect(page.commands).toEqual([IMAGE, VM, SERVE, LOOK, COPY, ASK, PIVOT, SLOWLY, RESUME, CALLS, END]);
  });

  test('a copy that holds at READY, and its pivot', async () => {
    expect(await shown(LOOK)).toMatch(/web1[^]*virtio0[^]*web1\.qcow2/);
    await shown(COPY);
    expect(await jobIn(await shown(ASK))).toMatchObject({
      state: Job_State.STATE_READY,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_MIRRORED },
    });
    expect(await jobIn(await shown(PIVOT))).toMatchObject({
      state: Job_State.STATE_COMPLETED,
      outcome: { guestWritesTo: here('/tmp/blockjob-tutorial/images/web1-new.qcow2') },
    });
  });

  test('the service dies during a copy, and the next one continues it', async () => {
    const { id } = await jobIn(await shown(SLOWLY));
    await service.kill();
    service = await serve();
    await service.domainUp('web1');
    await shown(RESUME);
    expect(await service.getInfo(id)).toMatchObject({
      state: Job_State.STATE_CANCELLED,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE },
    });
  });

  test('the same by grpcurl: start, pivot when it is ready, and the whole story', async () => {
    const [start = '', pivot = '', watch = '', ...more] = CALLS.split(/^(?=grpcurl)/m);
    expect(more).toEqual([]);
    const { job } = JSON.parse(await shown(start)) as { readonly job: { readonly id: string } };
    await service.until(job.id, 'STATE_READY');
    await shown(pivot);
    expect(await shown(watch)).toMatch(/"revision": "1"[^]*STATE_COMPLETED/);
    expect((await service.getInfo(job.id)).state).toBe(Job_State.STATE_COMPLETED);
  });
});
