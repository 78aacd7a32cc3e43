/** The file below test/, the name of the test in it, and what it holds: parts of sentences, or patterns of many. */
export type Row = readonly [file: string, name: string, ...parts: readonly (string | RegExp)[]];
