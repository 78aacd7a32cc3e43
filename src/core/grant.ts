/** What a policy allows somebody, as patterns of the names of domains. */
import { fits } from './pattern.ts';

export type Right = 'read' | 'operate';

/** Patterns of the names of domains. Who may operate may read. */
export interface Grant {
  readonly read: readonly string[];
  readonly operate: readonly string[];
}

/** As JSON. It travels with each call from gateway to agent. */
export const LARGEST_GRANT_BYTES = 16 * 1024;

/** As they are now. */
export type Rights = () => Grant;

export function grants({ read, operate }: Grant, right: Right, domain: string): boolean {
  const isOne = (pattern: string) => fits(domain, pattern);
  return operate.some(isOne) || (right === 'read' && read.some(isOne));
}
