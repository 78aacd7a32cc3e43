/** The limits of a request: the table, the contract's comments, and the refusals agree. */
import { readFile } from 'node:fs/promises';
import type { ServerHttp2Session } from 'node:http2';
import { join } from 'node:path';
import { clone, create, createFileRegistry, type DescField, type DescMessage } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import {
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FieldDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt';
import { describe, expect, test } from 'vitest';
import { BlockJobServiceService as Jobs } from '../../../generated/blockjob/v1/block_job_service.ts';
import { DomainServiceService as Domains } from '../../../generated/blockjob/v1/domain_service.ts';
import { ServerServiceService as Server } from '../../../generated/blockjob/v1/server_service.ts';
import { BlockJobError } from '../../../src/core/errors.ts';
import { CALLER_LIMITS } from '../../../src/core/limits.ts';
import { CONTRACT, decoded, shapesOf } from '../../../src/grpc/bounded.ts';
import { BOUNDS } from '../../../src/grpc/bounds.ts';
import { Connection } from '../../../src/grpc/door/connection.ts';
import { REQUEST_BYTES } from '../../../src/grpc/door/limits.ts';
import { Shares } from '../../../src/grpc/door/shares.ts';
import { commentsOfFields } from '../../support/contract.ts';

const METHODS = [...Object.values(Jobs), ...Object.values(Domains), ...Object.values(Server)];
const registry = createFileRegistry(CONTRACT);

/** A field of a method's request, however deep, with the fields above it. */
interface Place {
  readonly path: string;
  readonly way: readonly DescField[];
  readonly bound: (typeof BOUNDS)[string];
}

function placesIn(path: string, message: DescMessage, way: readonly DescField[] = []): Place[] {
  return message.fields.flatMap((field) => {
    const here = [...way, field];
    const bound = BOUNDS[`${message.typeName}.${field.name}`];
    if (field.message !== undefined) return placesIn(path, field.message, here);
    return bound === undefined ? [] : [{ path, way: here, bound }];
  });
}

const PLACES = METHODS.flatMap(({ path }) => {
  const [, service = '', name = ''] = path.split('/');
  const method = registry.getService(service)?.methods.find((one) => one.name === name);
  return method === undefined ? [] : placesIn(path, method.input);
});
const inWords = ({ path, way }: Place) => `${path} ${way.map(({ name }) => name).join('.')}`;

/** A request with this number of values, each of this number of bytes. */
function request({ way }: Place, { bytes, count }: { readonly bytes: number; readonly count: number }): Buffer {
  const [leaf, ...above] = way.toReversed();
  if (leaf === undefined) throw new Error('no way');
  let inner = new BinaryWriter();
  for (let at = 0; at < count; at += 1) {
    // An entry of a map is a message; an empty one is a message, too.
    const size = leaf.fieldKind === 'map' ? 0 : bytes;
    if (leaf.enum === undefined) inner.tag(leaf.number, WireType.LengthDelimited).bytes(Buffer.alloc(size, 'x'));
    else inner.tag(leaf.number, WireType.Varint).int32(1);
  }
  for (const { number } of above) {
    inner = new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(inner.finish());
  }
  return Buffer.from(inner.finish());
}

/** The field that is refused and why, or undefined. */
function refused({ path }: Place, bytes: Buffer): unknown {
  const method = METHODS.find((one) => one.path === path);
  if (method === undefined) throw new Error(`no method ${path}`);
  try {
    decoded<unknown>(method, bytes);
    return undefined;
  } catch (error) {
    if (!(error instanceof BlockJobError)) throw error;
    return { reason: error.reason, field: error.failure.metadata['field'] };
  }
}

test('each row of the table is a field of a request', () => {
  const reached = PLACES.map(({ way }) => way.at(-1)).map((field) => `${field?.parent.typeName}.${field?.name}`);
  expect([...new Set(reached)].toSorted()).toEqual(Object.keys(BOUNDS).toSorted());
});

describe.each(PLACES.map((place) => ({ what: inWords(place), place })))('$what', ({ place }) => {
  const { bytes = 1, count = 1 } = place.bound;
  const field = place.way.map(({ name }) => name).join('.');

  test('takes the longest allowed value', () => {
    expect(refused(place, request(place, { bytes, count }))).toBeUndefined();
  });

  test('is refused with one more', () => {
    const beyond = {
      byte: place.bound.bytes && { bytes: bytes + 1, count: 1 },
      element: place.bound.count && { bytes: 1, count: count + 1 },
    };
    for (const sizes of Object.values(beyond).filter((one) => typeof one === 'object'))
      expect(refused(place, request(place, sizes))).toEqual({ reason: 'FIELD_INVALID', field });
  });
});

/** This number of states, as numbers that come together. */
const pack = (count: number) =>
  new BinaryWriter().tag(2, WireType.LengthDelimited).bytes(Buffer.alloc(count, 1)).finish();

test('packed numbers are counted, too, and those of several packs together', () => {
  const place = PLACES.find((one) => inWords(one).endsWith('ListJobs state_filter'));
  if (place === undefined) throw new Error('no such field');
  expect(refused(place, Buffer.from(pack(64)))).toBeUndefined();
  const is = { reason: 'FIELD_INVALID', field: 'state_filter' };
  expect(refused(place, Buffer.from(pack(65)))).toEqual(is);
  expect(refused(place, Buffer.concat([pack(40), pack(40)]))).toEqual(is);
});

test('ten of the errors are reported', () => {
  const place = PLACES.find((one) => inWords(one).endsWith('Reclaim leftover_ids'));
  if (place === undefined) throw new Error('no such field');
  const many = request(place, { bytes: 321, count: 400 });
  const reclaim = () => decoded<unknown>(Jobs.reclaim, many);
  expect(reclaim).toThrow(BlockJobError);
  expect(reclaim).toThrow(/(is longer than 320 bytes.*){10}/);
});

test('the longest request fits into a message, and a message is not much longer', () => {
  const sizes = METHODS.map(({ path }) => {
    const places = PLACES.filter((one) => one.path === path);
    return places.reduce((all, { bound: { bytes = 1, count = 1 } }) => all + count * (bytes + 3) + 16, 0);
  });
  expect(Math.max(...sizes)).toBeLessThan(REQUEST_BYTES);
  expect(Math.max(...sizes)).toBeGreaterThan(REQUEST_BYTES / 2);
});

test('a text without a bound is found at once', () => {
  const contract = clone(FileDescriptorSetSchema, CONTRACT);
  const message = contract.file
    .flatMap(({ messageType }) => messageType)
    .find(({ name }) => name === 'GetDomainRequest');
  message?.field.push(
    create(FieldDescriptorProtoSchema, {
      name: 'fresh',
      number: 9,
      type: FieldDescriptorProto_Type.STRING,
      label: FieldDescriptorProto_Label.OPTIONAL,
    }),
  );
  expect(() => shapesOf(contract)).toThrow('blockjob.v1.GetDomainRequest.fresh: a text has a bound in bytes');
});

test('the contract says how long a request may be, and how many calls and watches a connection may have', async () => {
  const proto = await readFile(join(import.meta.dirname, '../../../proto/blockjob/v1/block_job_service.proto'), 'utf8');
  const said = proto.replaceAll(/\n\/\/ +/g, ' ');
  expect(said).toContain(`A request has at most ${REQUEST_BYTES} bytes in total`);
  const { streams } = CALLER_LIMITS;
  const watches = new Connection({} as ServerHttp2Session, 'peer', {
    streams,
    headerBytes: 0,
    arrivals: new Shares({ inAll: 1, ofOne: 1 }),
    waitsForPlaces: false,
  }).mostLasting;
  expect(said).toContain(
    `A connection may have ${streams} calls at a time by default. At most ${watches} of them may be watches`,
  );
});

test('the contract says each bound at its field', async () => {
  const comments = await commentsOfFields();
  for (const [name, { bytes, count }] of Object.entries(BOUNDS)) {
    const said = comments.get(name) ?? '';
    const numbers = [...said.matchAll(/at most (\d+)/gi)].map(([, number]) => Number(number));
    expect({ name, said, numbers }).toMatchObject({ numbers: [count, bytes].filter((one) => one !== undefined) });
  }
});
