/** What moves a cursor, opens a line or turns the direction of writing. */
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/**
 * One line that does to a terminal no more than it shows. Names, paths and QEMU's texts are others' words: nothing of them
 * is to be executed. The escapes are those of JSON, so that JSON is still what it was.
 */
export function visible(line: string): string {
  return line.replace(HIDDEN, (hidden) => {
    const json = JSON.stringify(hidden).slice(1, -1);
    return json === hidden ? `\\u${hidden.charCodeAt(0).toString(16).padStart(4, '0')}` : json;
  });
}
