/** What each version of QEMU can do: asked once a version and package, as the answer costs that QEMU 20 MB for good. */
import { fail } from '../../core/errors.ts';
import type { JobKind } from '../../core/job-options.ts';
import { missing, readSchema, type Schema } from '../../core/qemu/features.ts';
import { Refused } from '../../qmp/errors.ts';
import type { Identity } from './identity.ts';
import type { VirtualMachine } from './virtual-machine.ts';

export class Schemas {
  readonly #known = new Map<string, Promise<Schema | undefined>>();

  /** What this QEMU has, where it tells. Throws QEMU_TOO_OLD for a kind of job that it cannot do. */
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

  /** Undefined for a QEMU that does not tell: it is taken to have all, and refuses by itself what it has not. */
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
