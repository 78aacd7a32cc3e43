/** Characters that move a cursor, begin a line or change the direction of writing. */
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/**
 * One line that cannot control a terminal. Names, paths and QEMU's texts come from others, and a terminal must not
 * execute them. The escapes are those of JSON, so JSON keeps its meaning.
 */
export function visible(line: string): string {
  return line.replace(HIDDEN, (hidden) => {
    const json = JSON.stringify(hidden).slice(1, -1);
    return json === hidden ? `\\u${hidden.charCodeAt(0).toString(16).padStart(4, '0')}` : json;
  });
}
