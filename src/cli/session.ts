/** One run of a command: its service, and the output of its results. */
import type { BlockJobClient } from '../client/index.ts';
import type { Line } from './show/json.ts';
import { visible } from './show/visible.ts';
import type { Terminal } from './terminal.ts';

export class CliRun {
  readonly client: BlockJobClient;
  readonly isJson: boolean;
  readonly terminal: Terminal;

  constructor(client: BlockJobClient, isJson: boolean, terminal: Terminal) {
    this.client = client;
    this.isJson = isJson;
    this.terminal = terminal;
  }

  /** Aborted by Ctrl-C. */
  get signal(): AbortSignal {
    return this.terminal.signal;
  }

  /** Prints a result: for programs an object, for people lines. */
  tell(line: Line, text: string | readonly string[]): void {
    const lines = typeof text === 'string' ? [text] : text;
    const said = this.isJson ? [JSON.stringify(line)] : lines;
    for (const one of said) this.terminal.stdout.write(`${visible(one)}\n`);
  }

  /** Prints a line for people, beside the result. */
  note(text: string): void {
    if (!this.isJson) this.terminal.stderr.write(`${visible(text)}\n`);
  }
}
