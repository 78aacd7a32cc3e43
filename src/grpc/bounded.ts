/** The bytes of a request, checked before they are decoded: whether all parts are as short as BOUNDS requires. */
import { readFileSync } from 'node:fs';
import { createFileRegistry, type DescField, type DescMessage, fromBinary, ScalarType } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { type FileDescriptorSet, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import type { MethodDefinition } from '@grpc/grpc-js';
import type { Violation } from '../core/errors.ts';
import { invalid, invalidField, throwIfAny } from '../core/rules/rule.ts';
import { BOUNDS } from './bounds.ts';

const DESCRIPTORS = new URL('../../generated/blockjob.binpb', import.meta.url);

/** The original descriptors of the contract, for use at run time. */
export const CONTRACT: FileDescriptorSet = fromBinary(FileDescriptorSetSchema, readFileSync(DESCRIPTORS));

/** All errors are reported together, up to this number. */
const MOST_TOLD = 10;

interface Field {
  readonly name: string;
  /** The limit of a text, in bytes. */
  readonly bytes: number | undefined;
  /** The limit of a list, in elements. */
  readonly count: number | undefined;
  /** The field is a list of numbers, which protobuf may send as one value. */
  readonly isPacked: boolean;
  readonly message: Shape | undefined;
}

type Shape = ReadonlyMap<number, Field>;

type Method<Request> = Pick<MethodDefinition<Request, unknown>, 'path' | 'requestDeserialize'>;

/** The request of a method. Throws FIELD_INVALID if the bytes are not such a message, or hold more than allowed. */
export function decoded<Request>({ path, requestDeserialize }: Method<Request>, request: Buffer): Request {
  const shape = SHAPES.get(path);
  if (shape === undefined) throw new Error(`${path} is not in the contract`);
  const found: Violation[] = [];
  read(request, shape, '', found);
  throwIfAny(found);
  try {
    return requestDeserialize(request);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw invalidField('message', `cannot be decoded: ${why}`);
  }
}

function read(bytes: Uint8Array, shape: Shape, path: string, found: Violation[]): void {
  const reader = new BinaryReader(bytes);
  const counts = new Map<Field, number>();
  try {
    while (reader.pos < reader.len && found.length < MOST_TOLD) {
      const [number, type] = reader.tag();
      const field = shape.get(number);
      if (field === undefined) {
        reader.skip(type, number);
        continue;
      }
      const name = `${path}${field.name}`;
      const isBytes = type === WireType.LengthDelimited;
      const value = isBytes ? reader.bytes() : reader.skip(type, number);
      if (field.message !== undefined && isBytes) read(value, field.message, `${name}.`, found);
      if (value.length > (field.bytes ?? Infinity)) found.push(invalid(name, `is longer than ${field.bytes} bytes`));
      if (field.count === undefined) continue;
      const before = counts.get(field) ?? 0;
      // As many numbers as there are bytes without a sign that more of the same follows.
      const isPacked = isBytes && field.isPacked;
      const count = before + (isPacked ? value.reduce((all, byte) => (byte < 0x80 ? all + 1 : all), 0) : 1);
      counts.set(field, count);
      if (before <= field.count && count > field.count)
        found.push(invalid(name, `has more than ${field.count} elements`));
    }
  } catch {
    // Its decoder reports that it is not a message.
  }
}

function shapeOf(message: DescMessage): Shape {
  return new Map(message.fields.map((field) => [field.number, fieldOf(message, field)]));
}

/** Throws if a bound is missing. */
function fieldOf({ typeName }: DescMessage, field: DescField): Field {
  const { name, message, scalar } = field;
  const { bytes, count } = BOUNDS[`${typeName}.${name}`] ?? {};
  const isText = field.fieldKind !== 'map' && (scalar === ScalarType.STRING || scalar === ScalarType.BYTES);
  const isMany = field.fieldKind === 'list' || field.fieldKind === 'map';
  if (isText !== (bytes !== undefined))
    throw new Error(`${typeName}.${name}: a text has a bound in bytes, and nothing else`);
  if (isMany !== (count !== undefined)) throw new Error(`${typeName}.${name}: a list has a bound of its elements`);
  const isPacked = field.fieldKind === 'list' && !isText && message === undefined;
  return { name, bytes, count, isPacked, message: message && shapeOf(message) };
}

/** By method. Throws if a text or a list of a request has no bound. */
export function shapesOf(contract: FileDescriptorSet): ReadonlyMap<string, Shape> {
  const services = [...createFileRegistry(contract)].filter((one) => one.kind === 'service');
  const ours = services.filter(({ typeName }) => typeName.startsWith('blockjob.'));
  return new Map(
    ours.flatMap(({ typeName, methods }) =>
      methods.map(({ name, input }) => [`/${typeName}/${name}`, shapeOf(input)] as const),
    ),
  );
}

const SHAPES = shapesOf(CONTRACT);
