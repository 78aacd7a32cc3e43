/** Texts of others, cut for a line of the log: they may have sent a mebibyte. */

/** In characters; one may take six bytes in JSON. */
const LONGEST_TEXT = 512;
const MOST_MEMBERS = 50;
const DEEPEST = 5;
/** For all texts of one line together. */
const LONGEST_LINE = 4096;
const MOST_FRAMES = 50;
const MOST_CAUSES = 5;

interface Left {
  characters: number;
}

/** The same value with its texts cut, and only the first of many members. */
export function cut(value: unknown): unknown {
  return cutTo({ characters: LONGEST_LINE }, value, DEEPEST);
}

export function cutText(text: string, longest = LONGEST_TEXT): string {
  return text.length <= longest
    ? text
    : `${text.slice(0, Math.max(0, longest)).toWellFormed()}… (${text.length} characters)`;
}

/** An error as data: its own text cut, its stack and those of its causes kept. */
export function cutError(error: Error): Readonly<Record<string, unknown>> {
  const { name, message, stack: _stack, cause: _cause, ...more } = error;
  return {
    type: error.constructor.name,
    message: cutText(message),
    stack: stackOf(error),
    ...(cut({ ...more }) as object),
    ...(name === error.constructor.name ? {} : { name: cutText(name) }),
  };
}

function stackOf(error: Error): string {
  const chain: string[] = [];
  for (let one: unknown = error; one !== undefined && chain.length < MOST_CAUSES; one = one.cause) {
    if (!(one instanceof Error)) {
      chain.push(cutText(typeof one === 'string' ? one : typeof one));
      break;
    }
    // Its first lines repeat the message, of any length.
    const frames = (one.stack ?? '').split('\n').filter((line) => /^ +at /.test(line));
    chain.push([`${one.name}: ${cutText(one.message)}`, ...frames.slice(0, MOST_FRAMES)].join('\n'));
  }
  return chain.join('\ncaused by: ');
}

function cutTo(left: Left, value: unknown, depth: number): unknown {
  if (typeof value === 'string') {
    const text = cutText(value, Math.min(LONGEST_TEXT, left.characters));
    left.characters = Math.max(0, left.characters - text.length);
    return text;
  }
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Error) return cutTo(left, `${value.name}: ${value.message}`, depth);
  if (ArrayBuffer.isView(value)) return `${value.byteLength} bytes`;
  if (depth === 0) return '…';
  if (Array.isArray(value)) {
    const kept = value.slice(0, MOST_MEMBERS).map((one) => cutTo(left, one, depth - 1));
    return value.length > MOST_MEMBERS ? [...kept, `… (${value.length} of them)`] : kept;
  }
  if ('toJSON' in value && typeof value.toJSON === 'function') return cutTo(left, value.toJSON(), depth - 1);
  const members = Object.entries(value).slice(0, MOST_MEMBERS);
  return Object.fromEntries(members.map(([key, one]) => [cutText(key), cutTo(left, one, depth - 1)]));
}
