/** Errors of the catalogue: as plain data, which the journal keeps and which travels, and as what is thrown. */
import { type Code as CatalogueCode, catalogue, type Reason } from './catalogue.ts';

type Parameters<Text extends string> = Text extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Parameters<Rest>
  : never;

/** What the text of a reason names, as a record: the error's metadata. */
export type Metadata<R extends Reason> = Readonly<Record<Parameters<(typeof catalogue)[R]['text']>, string>>;

/** One argument that is wrong; several are reported at once. */
export interface Violation {
  /** The field's name in the proto, as `destination.file`. */
  readonly field: string;
  readonly reason: Reason;
  readonly text: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** An error as plain data: what the journal keeps and what travels. */
export interface Failure {
  readonly reason: Reason;
  readonly text: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations?: readonly Violation[];
}

function describe(reason: Reason, metadata: Readonly<Record<string, string>>): string {
  return catalogue[reason].text.replaceAll(/\{(\w+)\}/g, (_, name: string) => metadata[name] ?? '?');
}

/** Makes a failure of the catalogue; the compiler asks for exactly the words that its text names. */
export function failure<R extends Reason>(
  reason: R,
  metadata: Metadata<R>,
  more: Readonly<Record<string, string>> = {},
): Failure {
  return { reason, text: describe(reason, metadata), metadata: { ...metadata, ...more } };
}

/** Makes a violation: a failure of one field of the request. */
export function violation<R extends Reason>(field: string, reason: R, metadata: Metadata<R>): Violation {
  return { field, reason, text: describe(reason, metadata), metadata };
}

/** The one error that this service throws on purpose; everything else that is thrown is a bug. */
export class BlockJobError extends Error {
  override readonly name = 'BlockJobError';
  readonly failure: Failure;
  /** Why the caller is told that something is not there which is: for our own log, and never for an answer. */
  readonly hides: Failure | undefined;

  constructor(why: Failure, { hides, ...options }: { cause?: unknown; hides?: Failure } = {}) {
    super(`${why.reason}: ${why.text}`, options);
    this.failure = why;
    this.hides = hides;
  }

  get reason(): Reason {
    return this.failure.reason;
  }

  /** All that is wrong with a request, at once; the first one gives the reason. */
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

/** As the call of a client ends. */
export type Code = CatalogueCode | 'CANCELLED';

/** The code with which a call ends in which this was thrown. */
export function codeOf(error: unknown): Code {
  if (error instanceof BlockJobError) return catalogue[error.reason].code;
  return error instanceof Error && error.name === 'AbortError' ? 'CANCELLED' : 'INTERNAL';
}

/** Throws a reason of the catalogue. */
export function fail<R extends Reason>(reason: R, metadata: Metadata<R>, cause?: unknown): never {
  throw new BlockJobError(failure(reason, metadata), cause === undefined ? undefined : { cause });
}
