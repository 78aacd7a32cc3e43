/** The rights that a policy gives a caller, as patterns of domain names. */
import { fits } from './pattern.ts';

export type Right = 'read' | 'operate';

/** Patterns of domain names. A caller that may operate may also read. */
export interface Grant {
  readonly read: readonly string[];
  readonly operate: readonly string[];
}

/** As JSON. It travels with each call from gateway to agent. */
export const LARGEST_GRANT_BYTES = 16 * 1024;

/** The current rights. */
export type Rights = () => Grant;

export function grants({ read, operate }: Grant, right: Right, domain: string): boolean {
  const isOne = (pattern: string) => fits(domain, pattern);
  return operate.some(isOne) || (right === 'read' && read.some(isOne));
}
