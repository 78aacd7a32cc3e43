/** Processor time of this thread, for limits of an amount of work: other programs on the machine do not lengthen it. */

/** `before` is from process.threadCpuUsage(). */
export function cpuMsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000;
}
