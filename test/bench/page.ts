/** The parts of a page of docs that `make bench` writes, each between two marks. Pure. */

function marks(name: string): { readonly from: string; readonly to: string } {
  return { from: `<!-- bench: ${name} -->\n`, to: `<!-- end of bench: ${name} -->` };
}

/** The text between the marks. Throws if the page does not have both, once. */
export function partOf(page: string, name: string): string {
  const { from, to } = marks(name);
  const [, rest, ...more] = page.split(from);
  const [part, ...after] = (rest ?? '').split(to);
  if (part === undefined || more.length > 0 || after.length !== 1) {
    throw new Error(`the page needs ${from.trim()} and ${to}, once`);
  }
  return part;
}

/** The page with another text between the marks. */
export function withPart(page: string, name: string, text: string): string {
  const { from, to } = marks(name);
  return page.replace(`${from}${partOf(page, name)}${to}`, () => from + text + to);
}
