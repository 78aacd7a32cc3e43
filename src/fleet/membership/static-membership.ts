/** A host of a static site: its running domains are its own, and the operator who moves a domain prevents conflicts. */
import { Wake } from '../../lib/wake.ts';
import type { LocalDomain, Membership, Standing, Verdict } from '../directory/directory.ts';

export class StaticMembership implements Membership {
  readonly changes = new Wake();
  readonly standing: Standing = { is: 'member' };
  #here: ReadonlySet<string> = new Set();

  async join(): Promise<void> {}

  advertise(domains: readonly LocalDomain[]): void {
    this.#here = new Set(domains.map(({ id }) => id));
    this.changes.notify();
  }

  arrived(): void {}

  owns(id: string): boolean {
    return this.#here.has(id);
  }

  async mayAct(id: string): Promise<Verdict> {
    if (!this.owns(id)) return { may: false, why: 'not-owner', owner: undefined };
    return { may: true, epoch: 0n, by: 'directory' };
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
