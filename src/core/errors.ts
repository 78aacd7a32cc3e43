/** Errors of the catalogue: as plain data, for the journal and the wire, and as an exception. */
import { type CatalogueCode, catalogue, type Reason } from './catalogue.ts';

type Text<R extends Reason> = (typeof catalogue)[R]['text'];
type Data<T extends string> = T extends `${string}{${infer Name}}${infer Rest}` ? Name | Data<Rest> : never;
type Sentences<T extends string> = T extends `${string}<${infer Name}>${infer Rest}` ? Name | Sentences<Rest> : never;

type Counts =
  | 'bytes'
  | 'destinationBytes'
  | 'floorBytes'
  | 'freeBytes'
  | 'last'
  | 'limit'
  | 'maximum'
  | 'neededBytes'
  | 'offset'
  | 'revision'
  | 'sourceBytes';
type Value<Name extends string> = Name extends Counts | 'timeLimit' | 'value' ? number | bigint : string;

/** The slots in the text of a reason. Its data are the error's metadata. */
export type Slots<R extends Reason> = { readonly [Name in Data<Text<R>>]: Value<Name> } & {
  readonly [Name in Sentences<Text<R>>]: string;
};

/** Data must not be prose: a literal without spaces is allowed, any other literal is not. */
type Plain<R extends Reason, S> = {
  readonly [Name in keyof S]: Name extends Data<Text<R>>
    ? S[Name] extends `${string} ${string}`
      ? never
      : S[Name]
    : Name extends Sentences<Text<R>>
      ? S[Name]
      : never;
};

/** Data that some failures have beyond the slots of their text: QEMU's own words, which are quoted there. */
type Beyond = { readonly [Name in 'qemuClass' | 'qemuText' | 'kind' | 'path']?: string };

/** One argument that is wrong. All wrong arguments are reported together. */
export interface Violation {
  /** The field's name in the proto, as `destination.file`. */
  readonly field: string;
  readonly reason: Reason;
  readonly text: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** An error as plain data, for the journal and the wire. */
export interface Failure extends Omit<Violation, 'field'> {
  readonly violations?: readonly Violation[];
  /** The error of another version, encoded, if its reason is not known here: it is passed on as it came. */
  readonly original?: Uint8Array;
}

type Values = Readonly<Record<string, string | number | bigint>>;

function made(reason: Reason, slots: Values, beyond: Beyond = {}): Omit<Failure, 'violations'> {
  const { text } = catalogue[reason];
  const names = [...text.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name);
  const data = names.map((name) => [name, String(slots[name] ?? '?')] as const);
  return {
    reason,
    text: text.replaceAll(/[{<](\w+)[}>]/g, (_, name: string) => String(slots[name] ?? '?')),
    metadata: { ...Object.fromEntries(data), ...beyond },
  };
}

/** Makes a failure of the catalogue. The compiler asks for exactly the slots of its text. */
export function failure<R extends Reason, const S extends Slots<R>>(
  reason: R,
  slots: S & Plain<R, S>,
  beyond?: Beyond,
): Failure {
  return made(reason, slots, beyond);
}

/** The failure as this version knows it. Another version, on the wire or in the journal, may know more reasons. */
export function known(why: Failure): Failure {
  if (Object.hasOwn(catalogue, why.reason)) return why;
  const { reason, text, metadata } = failure('REASON_UNKNOWN', { otherReason: why.reason, said: why.text });
  return { reason, text, metadata: { ...why.metadata, ...metadata } };
}

/** Makes a violation: a failure of one field of the request. */
export function violation<R extends Reason, const S extends Slots<R>>(
  field: string,
  reason: R,
  slots: S & Plain<R, S>,
): Violation {
  return { field, ...made(reason, slots) };
}

/** The only error that this service throws on purpose. Every other exception is a bug. */
export class BlockJobError extends Error {
  override readonly name = 'BlockJobError';
  readonly failure: Failure;
  /**
   * The real failure if the caller gets NOT_FOUND about something that exists: for our own log, never for an answer.
   */
  readonly hides: Failure | undefined;

  constructor(why: Failure, { hides, ...options }: { cause?: unknown; hides?: Failure } = {}) {
    super(`${why.reason}: ${why.text}`, options);
    this.failure = known(why);
    this.hides = hides;
  }

  get reason(): Reason {
    return this.failure.reason;
  }

  /** All violations of a request in one error; the first one gives the reason. */
  static ofViolations(violations: readonly [Violation, ...Violation[]]): BlockJobError {
    const [first] = violations;
    return new BlockJobError({
      reason: first.reason,
      text: violations.map((v) => v.text).join('; '),
      metadata: { ...first.metadata, field: first.field },
      violations,
    });
  }
}

/** The code with which a call of a client ends. */
export type Code = CatalogueCode | 'CANCELLED';

/** The code with which a call ends if it throws this error. */
export function codeOf(error: unknown): Code {
  if (error instanceof BlockJobError) return catalogue[error.reason].code;
  return error instanceof Error && error.name === 'AbortError' ? 'CANCELLED' : 'INTERNAL';
}

/** Throws a reason of the catalogue. */
export function fail<R extends Reason, const S extends Slots<R>>(
  reason: R,
  slots: S & Plain<R, S>,
  cause?: unknown,
): never {
  throw new BlockJobError(made(reason, slots), cause === undefined ? undefined : { cause });
}
