/** The parts of the contract for authors of clients: its packages, and the behaviour of each field. */
import { basename } from 'node:path';
import { createFileRegistry, type DescField, type DescMessage, getOption, ScalarType } from '@bufbuild/protobuf';
import { FileOptionsSchema } from '@bufbuild/protobuf/wkt';
import { describe, expect, test } from 'vitest';
import { CONTRACT } from '../../../src/grpc/bounded.ts';
import { commentsOfFields } from '../../support/contract.ts';

const registry = createFileRegistry(CONTRACT);
const ours = [...registry].filter(({ typeName }) => typeName.startsWith('blockjob.'));
const services = ours.filter((one) => one.kind === 'service');
const messages = ours.filter((one) => one.kind === 'message');
const BEHAVIOR = registry.getExtension('google.api.field_behavior');
/** The numbers of google.api.FieldBehavior. */
const [REQUIRED, OUTPUT_ONLY] = [2, 3];

function behaviorOf(field: DescField): unknown {
  if (BEHAVIOR === undefined) throw new Error('no such extension');
  return getOption(field, BEHAVIOR);
}

/** These messages, and all messages within them. */
function within(roots: readonly DescMessage[]): ReadonlySet<DescMessage> {
  const found = new Set(roots);
  for (const { fields } of found) for (const { message } of fields) if (message !== undefined) found.add(message);
  return found;
}

const asked = within(services.flatMap(({ methods }) => methods.map(({ input }) => input)));
const answers = new Set(services.flatMap(({ methods }) => methods.map(({ output }) => output)));

const nameOf = ({ parent, name }: DescField) => `${parent.typeName}.${name}`;
const withBehavior = (wanted: number) =>
  messages
    .flatMap(({ fields }) => fields.filter((field) => JSON.stringify(behaviorOf(field)) === `[${wanted}]`))
    .map(nameOf)
    .toSorted();

describe('a field', () => {
  test('is REQUIRED where its comment says so, in each message that may be asked with', async () => {
    const comments = await commentsOfFields();
    const said = [...asked]
      .flatMap(({ fields }) => fields)
      .map(nameOf)
      .filter((name) => /(^|\. ?)\s*Required[.,]/.test(comments.get(name) ?? ''));
    expect(withBehavior(REQUIRED)).toEqual(said.toSorted());
    expect(said.length).toBeGreaterThan(15);
  });

  test('is OUTPUT_ONLY if its message is only ever an answer', () => {
    const answered = messages.filter((message) => !asked.has(message) && !answers.has(message));
    expect(withBehavior(OUTPUT_ONLY)).toEqual(answered.flatMap(({ fields }) => fields.map(nameOf)).toSorted());
  });

  test('with a number has a sign', () => {
    const unsigned = [ScalarType.UINT32, ScalarType.UINT64, ScalarType.FIXED32, ScalarType.FIXED64];
    const found = messages.flatMap(({ fields }) =>
      fields.filter(({ scalar }) => scalar !== undefined && unsigned.includes(scalar)),
    );
    expect(found.map(nameOf)).toEqual([]);
  });
});

describe.each(CONTRACT.file.filter(({ package: name }) => name === 'blockjob.v1'))('$name', ({ name, options }) => {
  test('has the packages that buf’s managed mode gives it', () => {
    const words = basename(name, '.proto').split('_');
    const outer = words.map((word) => `${word.charAt(0).toUpperCase()}${word.slice(1)}`).join('');
    expect(options).toEqual({
      $typeName: FileOptionsSchema.typeName,
      uninterpretedOption: [],
      csharpNamespace: 'Blockjob.V1',
      // No host: nobody has published it at one. It is also the path of the examples.
      goPackage: 'blockjob/v1;blockjobv1',
      javaMultipleFiles: true,
      javaOuterClassname: `${outer}Proto`,
      javaPackage: 'com.blockjob.v1',
      objcClassPrefix: 'BXX',
      phpMetadataNamespace: String.raw`Blockjob\V1\GPBMetadata`,
      phpNamespace: String.raw`Blockjob\V1`,
      rubyPackage: 'Blockjob::V1',
    });
  });
});
