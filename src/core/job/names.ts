/** Names in QEMU by rule, so that "did it happen?" is a look-up. A node name has at most 31 characters. */

/**
 * A job that a blockjobd began, this one or another. Job ids: a letter first, as QEMU wants it, and short, as node names
 * are made of it.
 */
export function isJobId(qemuJob: string): boolean {
  return /^bj[0-9a-f]{16}$/.test(qemuJob);
}

/** Of which job of a blockjobd a job in QEMU is one: the job itself, or a step of it. Undefined: another client's. */
export function jobOf(qemuJob: string): string | undefined {
  return /^(bj[0-9a-f]{16})(?:-|$)/.exec(qemuJob)?.[1];
}

/** Whose a job is: the first digits of its id are those of the state folder from which it was begun. */
export function ownerOf(job: string): string {
  return job.slice(2, 2 + OWNER_DIGITS);
}

/** Of sixteen: the others are the job's own. */
export const OWNER_DIGITS = 6;

export function namesOf(job: string) {
  return { node: job, file: `${job}-file`, filter: `${job}-filter`, create: `${job}-create` };
}

export function isOfJob(node: string, job: string): boolean {
  return node === job || node.startsWith(`${job}-`);
}

/** Nodes of an image of the destination's own chain; the destination's backing image is number 1. */
export function backingNamesOf(job: string, number: number) {
  const node = `${job}-b${number}`;
  return { node, file: `${node}-file` };
}
