/** A page of docs/, parsed so that tests can check its tables, its commands and its examples. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from './service/service.ts';

export interface Section {
  readonly heading: string;
  readonly text: string;
  /** Each is a script for bash. */
  readonly commands: readonly string[];
  /** Each without its heading; a row is the list of its cells, without the backquotes. */
  readonly tables: readonly (readonly (readonly string[])[])[];
}

export class DocPage {
  readonly text: string;
  readonly sections: readonly Section[];

  constructor(name: string) {
    this.text = readFileSync(join(REPOSITORY, 'docs', name), 'utf8');
    this.sections = this.text.split(/^## /m).map((part) => {
      const [heading = '', ...lines] = part.split('\n');
      const text = lines.join('\n');
      return { heading, text, commands: fencedIn(text, 'sh'), tables: tablesIn(text) };
    });
  }

  /** Those of the whole page, in order. */
  get commands(): Section['commands'] {
    return this.sections.flatMap(({ commands }) => commands);
  }

  get tables(): Section['tables'] {
    return this.sections.flatMap(({ tables }) => tables);
  }

  section(heading: string): Section {
    const found = this.sections.find((one) => one.heading === heading);
    if (found === undefined) throw new Error(`there is no section ${heading}`);
    return found;
  }
}

/** The fenced blocks of a language. */
export function fencedIn(text: string, language: string): readonly string[] {
  const fence = new RegExp(`^\`\`\`${language}\n([^]*?)\n\`\`\`$`, 'gm');
  return [...text.matchAll(fence)].map(([, block = '']) => block);
}

function tablesIn(text: string): Section['tables'] {
  return [...text.matchAll(/^\|.*\n\|[-|: ]+\|\n((?:\|.*\n)*)/gm)].map(([, rows = '']) =>
    rows
      .trimEnd()
      .split('\n')
      .map((row) =>
        row
          .slice(1, -1)
          .split('|')
          .map((cell) => cell.trim().replaceAll('`', '')),
      ),
  );
}
