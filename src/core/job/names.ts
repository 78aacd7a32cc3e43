/** Names in QEMU follow rules, so that "did it happen?" is a look-up. A node name has at most 31 characters. */

/** A job of any blockjobd. Its id begins with a letter, as QEMU requires, and is short, as node names contain it. */
export function isJobId(qemuJob: string): boolean {
  return /^bj[0-9a-f]{16}$/.test(qemuJob);
}

/** The blockjobd job that a job in QEMU belongs to: the job itself, or one of its steps. Undefined for another client's. */
export function jobOf(qemuJob: string): string | undefined {
  return /^(bj[0-9a-f]{16})(?:-|$)/.exec(qemuJob)?.[1];
}

/** The owner of a job: the first digits of its id are those of the state folder from which it was begun. */
export function ownerOf(job: string): string {
  return job.slice(2, 2 + OWNER_DIGITS);
}

/** The number of digits, out of sixteen; the others belong to the job itself. */
export const OWNER_DIGITS = 6;

export function namesOf(job: string) {
  return { node: job, file: `${job}-file`, filter: `${job}-filter`, create: `${job}-create` };
}

export function isOfJob(node: string, job: string): boolean {
  return node === job || node.startsWith(`${job}-`);
}

/** Nodes of an image in the destination's own chain; the destination's backing image is number 1. */
export function backingNamesOf(job: string, number: number) {
  const node = `${job}-b${number}`;
  return { node, file: `${node}-file` };
}
