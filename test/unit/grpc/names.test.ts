/**
 * The names of the contract, as the generators of six languages write them: none is a keyword there, so none has to be
 * escaped, and none means something else to the generator.
 *
 * Their treatment of a name, from their own sources:
 * - protoc for Python keeps fields, oneofs, messages, values and methods as they are, and a keyword then cannot be written:
 *   AbortRequest(async=True) is not Python.
 * - prost and rust-protobuf keep fields and oneofs, and make methods and modules snake_case: a keyword becomes r#type, or type_.
 * - ts-proto and protobuf-es make fields, oneofs and methods lowerCamelCase. A keyword is a property then, which no variable
 *   takes its name from. protobuf-es escapes the members of every object.
 * - protoc for Go makes fields and methods UpperCamelCase, and no keyword is. It appends "_" to the members of every
 *   message.
 * - protoc for C# makes fields UpperCamelCase, too: `base` is Base. Beside the name of the class itself, and what each message
 *   has, it appends "_".
 * - protoc for Java makes getters, as getBase(), of fields, so no field is a keyword; it appends "_" to the members of
 *   every message.
 *   Methods of services are lowerCamelCase in grpc-java, and a keyword gets "_".
 */
import { createFileRegistry, type DescField, type DescMessage, type DescOneof } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { CONTRACT } from '../../../src/grpc/bounded.ts';

const words = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\s+/));

const KEYWORDS = {
  Python: words(`
    False None True and as assert async await break class continue def del elif else except finally for from global if import in
    is lambda nonlocal not or pass raise return try while with yield print exec`),
  Rust: words(`
    as async await break const continue crate dyn else enum extern false fn for gen if impl in let loop match mod move mut pub
    ref return self Self static struct super trait true type union unsafe use where while abstract become box do final macro
    override priv try typeof unsized virtual yield`),
  TypeScript: words(`
    await break case catch class const continue debugger default delete do else enum export extends false finally for function
    if implements import in instanceof interface let new null package private protected public return static super switch this
    throw true try typeof var void while with yield async arguments eval undefined`),
  Go: words(`
    break case chan const continue default defer else fallthrough for func go goto if import interface map package range return
    select struct switch type var`),
  Java: words(`
    abstract assert boolean break byte case catch char class const continue default do double else enum extends false final
    finally float for goto if implements import instanceof int interface long native new null package private protected public
    return short static strictfp super switch synchronized this throw throws transient true try void volatile while`),
  'C#': words(`
    abstract as base bool break byte case catch char checked class const continue decimal default delegate do double else enum
    event explicit extern false finally fixed float for foreach goto if implicit in int interface internal is lock long
    namespace new null object operator out override params private protected public readonly ref return sbyte sealed short
    sizeof stackalloc static string struct switch this throw true try typeof uint ulong unchecked unsafe ushort using virtual
    void volatile while`),
} as const;
type Language = keyof typeof KEYWORDS;

/** The members of every message, so that a field of that name is written otherwise. */
const RESERVED: Readonly<Record<Language, ReadonlySet<string>>> = {
  Python: words('DESCRIPTOR Extensions'),
  Rust: words('default clear encode decode merge encoded_len encode_to_vec'),
  TypeScript: words('constructor toString toJSON valueOf $typeName $unknown'),
  Go: words('Reset String ProtoMessage Marshal Unmarshal ExtensionRangeArray ExtensionMap Descriptor ProtoReflect'),
  Java: words(
    'class defaultInstanceForType parserForType serializedSize allFields descriptorForType unknownFields cachedSize',
  ),
  'C#': words('Types Descriptor Parser Clone Equals GetHashCode ToString WriteTo CalculateSize MergeFrom GetType'),
};

const camel = (name: string) => name.replaceAll(/_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
const upper = (name: string) => `${name.charAt(0).toUpperCase()}${camel(name).slice(1)}`;
const lower = (name: string) => `${name.charAt(0).toLowerCase()}${name.slice(1)}`;
const snake = (name: string) => lower(name).replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** The form of a field's or oneof's name in each language. */
const OF_FIELD: Readonly<Record<Language, (name: string) => string>> = {
  Python: (name) => name,
  Rust: (name) => name,
  TypeScript: camel,
  Go: upper,
  Java: camel,
  'C#': upper,
};
/** Java writes getters of fields, and no plain name. */
const ALONE: ReadonlySet<Language> = new Set(['Python', 'Rust', 'TypeScript', 'Go', 'C#']);

/** The form of a service's method in each language. */
const OF_METHOD: Readonly<Record<Language, (name: string) => string>> = {
  Python: (name) => name,
  Rust: snake,
  TypeScript: lower,
  Go: (name) => name,
  Java: lower,
  'C#': (name) => name,
};

const LANGUAGES = Object.keys(KEYWORDS) as Language[];

function wrongField({ name, parent }: { readonly name: string; readonly parent: DescMessage }): string[] {
  return LANGUAGES.filter((language) => {
    const written = OF_FIELD[language](name);
    if (language === 'C#' && written === parent.name) return true;
    return (ALONE.has(language) && KEYWORDS[language].has(written)) || RESERVED[language].has(written);
  }).map((language) => `${language}: ${parent.typeName}.${name}`);
}

/** Type names and values are the same everywhere. */
function wrongName(name: string): string[] {
  return LANGUAGES.filter((language) => KEYWORDS[language].has(name)).map((language) => `${language}: ${name}`);
}

function wrongMethod(name: string): string[] {
  return LANGUAGES.filter((language) => KEYWORDS[language].has(OF_METHOD[language](name))).map(
    (language) => `${language}: ${name}`,
  );
}

const registry = [...createFileRegistry(CONTRACT)].filter(
  ({ kind, typeName }) => kind !== 'extension' && typeName.startsWith('blockjob.'),
);

test('no name is a keyword, or a member of generated code, in any of the languages', () => {
  const wrong = registry.flatMap((one) => {
    switch (one.kind) {
      case 'message': {
        const members: readonly (DescField | DescOneof)[] = [...one.fields, ...one.oneofs];
        return [...wrongName(one.name), ...members.flatMap(wrongField)];
      }
      case 'enum':
        return [one.name, ...one.values.map(({ name }) => name)].flatMap(wrongName);
      case 'service':
        return [...wrongName(one.name), ...one.methods.flatMap(({ name }) => wrongMethod(name))];
      case 'extension':
        return [];
    }
  });
  expect(wrong).toEqual([]);
});

test.each([
  ['async', ['Python', 'Rust', 'TypeScript']],
  ['ref', ['Rust']],
  ['type', ['Rust']],
  ['in', ['Python', 'Rust', 'TypeScript']],
  ['default', ['Rust', 'TypeScript']],
  ['class', ['Python', 'TypeScript', 'Java']],
  ['base', []],
  ['object', []],
  ['reset', ['Go']],
  ['parent', ['C#']],
])('a field %s would be escaped, or could not be written, in %j', (name, languages) => {
  const parent = { name: 'Parent', typeName: 'x.Parent' } as DescMessage;
  expect(wrongField({ name, parent }).map((one) => one.split(':')[0])).toEqual(languages);
});

test.each([
  ['Import', ['Java', 'TypeScript']],
  ['Move', ['Rust']],
  ['None', ['Python']],
  ['Commit', []],
])('a method %s would be in %j', (name, languages) => {
  const found = new Set(wrongMethod(name).map((one) => one.split(':')[0]));
  expect(found).toEqual(new Set(languages));
});
