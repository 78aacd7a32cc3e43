/** Whether the whole text matches the pattern, in which * stands for any text. The time is linear in both. */
export function fits(text: string, pattern: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return text === pattern;
  if (!text.startsWith(first) || text.length < first.length + last.length || !text.endsWith(last)) return false;
  // Taking the leftmost occurrence of each part leaves the most for the parts after it.
  const end = text.length - last.length;
  let at = first.length;
  for (const part of rest) {
    const found = endOf(part, text, at, end);
    if (found === undefined) return false;
    at = found;
  }
  return true;
}

/**
 * The position behind the first occurrence of a part in text[from..to); undefined if there is none. String.indexOf can
 * take the product of both lengths; this looks at each character of the text once (Knuth, Morris and Pratt).
 */
function endOf(part: string, text: string, from: number, to: number): number | undefined {
  if (part === '') return from;
  if (part.length > to - from) return undefined;
  const falls = fallsOf(part);
  let matched = 0;
  for (let at = from; at < to; at += 1) {
    matched = next(part, falls, matched, text.charCodeAt(at));
    if (matched === part.length) return at + 1;
  }
  return undefined;
}

/** For each number of matching characters: how many still match at least one place further to the right. */
function fallsOf(part: string): Uint32Array {
  const falls = new Uint32Array(part.length);
  for (let at = 1; at < part.length; at += 1) {
    falls[at] = next(part, falls, falls[at - 1] ?? 0, part.charCodeAt(at));
  }
  return falls;
}

function next(part: string, falls: Uint32Array, matched: number, character: number): number {
  let now = matched;
  while (now > 0 && part.charCodeAt(now) !== character) now = falls[now - 1] ?? 0;
  return part.charCodeAt(now) === character ? now + 1 : now;
}
