/** The smallest part of an input that still shows the failure: Zeller's delta debugging, without its second half. */
export async function smallest<T>(
  all: readonly T[],
  fails: (part: readonly T[]) => Promise<boolean>,
): Promise<readonly T[]> {
  let left = all;
  for (let span = Math.ceil(left.length / 2); span > 0; span = span === 1 ? 0 : Math.ceil(span / 2)) {
    for (let at = 0; at < left.length; ) {
      const without = left.toSpliced(at, span);
      if (without.length < left.length && (await fails(without))) left = without;
      else at += span;
    }
  }
  return left;
}
