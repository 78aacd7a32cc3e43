/** Loaded before the tests: each error is checked, and one with prose in its metadata is a bug. */
import { vi } from 'vitest';
import type * as Errors from '../../src/core/errors.ts';

/** QEMU's own words, unchanged; and a caller's words that are not a path. */
const QUOTED: ReadonlySet<string> = new Set(['qemuText', 'qemuClass', 'version']);

vi.mock('../../src/core/errors.ts', async (original) => {
  const errors = await original<typeof Errors>();
  const looked =
    <Args extends readonly unknown[], Made extends { readonly metadata: Readonly<Record<string, string>> }>(
      make: (...args: Args) => Made,
      quoted = QUOTED,
    ) =>
    (...args: Args): Made => {
      const made = make(...args);
      for (const [key, value] of Object.entries(made.metadata)) {
        if (!quoted.has(key) && /\S\s+\S/.test(value)) throw new Error(`prose in metadata.${key}: ${value}`);
      }
      return made;
    };
  const failure = looked(errors.failure as (reason: never, slots: never) => Errors.Failure);
  const fail = (reason: never, slots: never, cause?: unknown) => {
    throw new errors.BlockJobError(failure(reason, slots), cause === undefined ? undefined : { cause });
  };
  return { ...errors, failure, fail, violation: looked(errors.violation, new Set([...QUOTED, 'path'])) };
});
