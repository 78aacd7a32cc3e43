/** The features of each version of QEMU: asked once per version and package, as the answer costs QEMU 20 MB for good. */
import { fail } from '../../core/errors.ts';
import type { JobKind } from '../../core/job-options.ts';
import { missing, readSchema, type Schema } from '../../core/qemu/features.ts';
import { Refused } from '../../qmp/errors.ts';
import type { Identity } from './identity.ts';
import type { VirtualMachine } from './virtual-machine.ts';

export class Schemas {
  readonly #known = new Map<string, Promise<Schema | undefined>>();

  /** The features of this QEMU, if it reports them. Throws QEMU_TOO_OLD for a kind of job that it does not support. */
  async require(
    kind: JobKind,
    machine: Pick<VirtualMachine, 'name' | 'execute'>,
    { qemuVersion: version }: Pick<Identity, 'qemuVersion'>,
  ): Promise<Schema | undefined> {
    const schema = await this.#of(version, async () => await machine.execute({ execute: 'query-qmp-schema' }));
    const need = schema && missing(schema, kind);
    if (need === undefined) return schema;
    const feature = [need.command, ...need.arguments].join(' ');
    return fail('QEMU_TOO_OLD', { version, domain: machine.name, feature, since: need.since });
  }

  /** Undefined if QEMU has no schema: it is assumed to have all features, and refuses those that it lacks. */
  async #of(version: string, ask: () => Promise<unknown>): Promise<Schema | undefined> {
    const known = this.#known.get(version) ?? this.#read(version, ask);
    this.#known.set(version, known);
    return await known;
  }

  async #read(version: string, ask: () => Promise<unknown>): Promise<Schema | undefined> {
    try {
      return readSchema(await ask());
    } catch (error) {
      if (error instanceof Refused) return undefined;
      // It could not be asked now; the next one is.
      this.#known.delete(version);
      throw error;
    }
  }
}
