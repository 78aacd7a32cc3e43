/** Fields that messages leave empty, and values that they never hold, as the comments of the contract say. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DescMessage, fromBinary } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import {
  Leftover as LeftoverMessage,
  StartCopyRequest,
  StartCopyResponse,
} from '../../../generated/blockjob/v1/block_job_service.ts';
import { JobEvent as JobEventMessage } from '../../../generated/blockjob/v1/job.ts';
import { GetServerInfoResponse } from '../../../generated/blockjob/v1/server_service.ts';
import { LeftoverSchema, StartCopyResponseSchema } from '../../../generated/es/blockjob/v1/block_job_service_pb.js';
import { JobEventSchema } from '../../../generated/es/blockjob/v1/job_pb.js';
import { GetServerInfoResponseSchema } from '../../../generated/es/blockjob/v1/server_service_pb.js';
import type { PlannedStepInWords } from '../../../src/core/block-jobs.ts';
import { encryptionOf } from '../../../src/core/destination.ts';
import { failure } from '../../../src/core/errors.ts';
import { concludedJob } from '../../../src/core/job/job.ts';
import { type EventType, IS_ENTRY } from '../../../src/core/job/job-event.ts';
import { publicJob } from '../../../src/core/job/job-view.ts';
import { outcomeAtEnd } from '../../../src/core/job/outcome-of.ts';
import { fromJobEvent, fromJobView, fromLeftover, fromStarted } from '../../../src/grpc/answers.ts';
import { fromDomain } from '../../../src/grpc/domain-answers.ts';
import { serverInfoFor } from '../../../src/grpc/reading.ts';
import { toCopyRequest } from '../../../src/grpc/requests.ts';
import { anImage } from '../../support/images/image.ts';
import {
  ACTIVE_COMMIT,
  COMMIT,
  CONCLUDED,
  CREATED,
  jobOf,
  jobWith,
  LEFTOVER,
  POLICY,
  PULL,
  policyStep,
  RUNNING,
  STORIES,
} from '../core/stories.ts';

const PROTO = join(import.meta.dirname, '../../../proto/blockjob/v1');
const TIME = '2026-01-01T00:00:00.000Z';
const TYPES = Object.keys(IS_ENTRY) as readonly EventType[];
const FACTS = { progress: undefined, time: TIME, detail: 'd' } as const;

/** The enums whose first value "is never sent", by their full name. */
function neverUnspecified(): ReadonlySet<string> {
  const found = new Set<string>();
  for (const file of readdirSync(PROTO)) {
    let message = '';
    let name = '';
    let comment = '';
    for (const line of readFileSync(join(PROTO, file), 'utf8').split('\n')) {
      message = /^message (\w+)/.exec(line)?.[1] ?? (line.startsWith('}') ? '' : message);
      name = /^ *enum (\w+)/.exec(line)?.[1] ?? name;
      if (/_UNSPECIFIED = 0;/.test(line) && /never sent/i.test(comment)) {
        found.add(['blockjob.v1', message, name].filter((part) => part !== '').join('.'));
      }
      comment = line;
    }
  }
  // Its values are strings in ErrorInfo, and all of the catalogue.
  found.delete('blockjob.v1.ErrorReason');
  return found;
}

/** Tells of each enum in the message, at whatever depth. */
function eachEnum(desc: DescMessage, message: object, see: (name: string, value: unknown, at: string) => void): void {
  for (const field of desc.fields) {
    const holder = field.oneof === undefined ? message : (Reflect.get(message, field.oneof.localName) as object);
    const isChosen = field.oneof === undefined || Reflect.get(holder, 'case') === field.localName;
    const value: unknown = Reflect.get(holder, field.oneof === undefined ? field.localName : 'value');
    if (!isChosen || value === undefined) continue;
    const at = `${desc.typeName}.${field.name}`;
    const values: readonly unknown[] = field.fieldKind === 'list' ? (value as unknown[]) : [value];
    if (field.enum !== undefined) for (const one of values) see(field.enum.typeName, one, at);
    if (field.message !== undefined && field.fieldKind !== 'map')
      for (const one of values) eachEnum(field.message, one as object, see);
  }
}

const endedJob = concludedJob(jobOf(CREATED, RUNNING, CONCLUDED));
const JOBS = [
  ...STORIES.map(([, , entries]) => publicJob(jobOf(...entries))),
  ...[PULL, COMMIT, ACTIVE_COMMIT].map((kind) => publicJob(jobWith(kind, RUNNING))),
  publicJob(jobWith({ options: { endPolicy: POLICY } }, RUNNING, policyStep('HOLD'))),
  { ...publicJob(endedJob), outcome: outcomeAtEnd(endedJob) },
];
const STEP: PlannedStepInWords = { name: 's', phase: 'START', run: '', undo: '', reason: '' };

describe('an answer', () => {
  it('never has the first value of an enum that says so', () => {
    const events = JOBS.flatMap((job) =>
      TYPES.map((type) => JobEventMessage.encode(fromJobEvent({ job, ...FACTS, type })).finish()),
    );
    const [job] = JOBS;
    if (job === undefined) throw new Error('no job');
    const plan = fromStarted({ etag: 'e', accepted: job.accepted, steps: [STEP], notes: [] });
    const info = { version: '1', build: 'dev', mode: 'SERVE', host: 'h', startTime: new Date() } as const;
    const answers: readonly (readonly [DescMessage, Uint8Array])[] = [
      ...events.map((bytes) => [JobEventSchema, bytes] as const),
      [StartCopyResponseSchema, StartCopyResponse.encode(plan).finish()],
      [LeftoverSchema, LeftoverMessage.encode(fromLeftover(LEFTOVER)).finish()],
      [GetServerInfoResponseSchema, GetServerInfoResponse.encode(serverInfoFor(undefined, info)).finish()],
    ];
    const never = neverUnspecified();
    const [met, wrong] = [new Set<string>(), new Set<string>()];
    for (const [desc, bytes] of answers) {
      eachEnum(desc, fromBinary(desc, bytes), (name, value, at) => {
        if (!never.has(name)) return;
        met.add(name);
        if (value === 0) wrong.add(at);
      });
    }
    expect([...wrong]).toEqual([]);
    expect([...met].toSorted()).toEqual([...never].toSorted());
  });

  it('has no destination of its own for a pull or a commit', () => {
    for (const kind of [PULL, COMMIT, ACTIVE_COMMIT])
      expect(fromJobView({ job: publicJob(jobWith(kind, RUNNING)), progress: undefined }).destination).toBeUndefined();
    expect(fromJobView({ job: publicJob(jobOf(RUNNING)), progress: undefined }).destination).toBeDefined();
  });

  it('has the oldest revision with COMPACTED, and with nothing else', () => {
    const job = publicJob(jobOf(RUNNING));
    const compacted = fromJobEvent({ job, ...FACTS, type: 'COMPACTED', oldestRevision: 7 });
    expect(compacted).toMatchObject({ revision: 6n, oldestRevision: 7n });
    for (const type of TYPES.filter((one) => one !== 'COMPACTED'))
      expect(fromJobEvent({ job, ...FACTS, type })).toMatchObject({ revision: 2n, oldestRevision: 0n });
  });

  it('has what QEMU reports of a domain, and nothing where it reports nothing', () => {
    const image = anImage({ path: '/i', allocatedBytes: undefined, readOnly: true });
    const disk = { id: 'vd0', backend: '', chain: [image] };
    const cd = { disk: { id: 'cd0', backend: 'drive0', chain: [] }, deviceType: 'ide-cd', activeJob: undefined };
    const up = { up: true, qemuVersion: '7.2.0', qemuPid: undefined, guestState: undefined } as const;
    const domain = { name: 'vm1', uuid: undefined, host: 'host1', connection: up };
    const message = fromDomain(domain, [{ disk, deviceType: undefined, activeJob: undefined }, cd]);
    expect(message).toMatchObject({ uuid: '', qemuPid: 0, guestState: 0, error: undefined });
    expect(message.disks).toMatchObject([
      {
        qdevId: 'vd0',
        blockBackend: '',
        deviceModel: '',
        job: undefined,
        chain: [
          {
            storageNodeName: '',
            storage: '',
            allocatedBytes: undefined,
            backingFile: '',
            backingFormat: '',
            readOnly: true,
          },
        ],
      },
      { qdevId: 'cd0', blockBackend: 'drive0', nodeName: '', path: '', virtualSizeBytes: 0n, chain: [] },
    ]);
    expect(fromDomain(domain).disks).toEqual([]);
    const silent = failure('QEMU_UNREACHABLE', { domain: 'vm1', why: 'it is stopped' });
    expect(fromDomain({ ...domain, connection: { up: false, why: silent } })).toMatchObject({
      error: { code: 14, message: silent.text },
      qemuVersion: '',
    });
  });
});

/** The NBD server that a request with this port means. */
function serverOf(port: number) {
  const nbd = { server: { $case: 'tcp', value: { host: 'h', port } } } as const;
  const message = StartCopyRequest.fromPartial({ destination: { target: { $case: 'nbd', value: nbd } } });
  const { destination } = toCopyRequest(message);
  return destination?.kind === 'nbd' ? destination.nbd.server : undefined;
}

describe('a request', () => {
  it('that names no NBD port means the registered one', () => {
    expect([0, 1, 65_535].map(serverOf)).toEqual([10_809, 1, 65_535].map((port) => ({ kind: 'tcp', host: 'h', port })));
  });
});

describe('the secret of an image', () => {
  it('is read from the name that QEMU gives to the image, and is empty if the name does not have it', () => {
    const name = 'json:{"encrypt.key-secret": "s0", "driver": "qcow2", "encrypt.format": "luks"}';
    expect([name, '/copy'].map(encryptionOf)).toEqual([{ secretId: 's0' }, { secretId: '' }]);
  });
});
