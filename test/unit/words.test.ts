/** The words of this project: the marks of a dialect that stops readers, and the files that still have them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';

const ROOT = join(import.meta.dirname, '../..');

interface Mark {
  /** What to write instead. */
  readonly instead: string;
  readonly pattern: RegExp;
  /** A sentence that has the mark. */
  readonly example: string;
}

/** Each pattern is tried on one sentence. */
const MARKS: Readonly<Record<string, Mark>> = {
  'of no moment': {
    instead: 'does not match any point in time of the disk; is not a consistent image',
    pattern: /\bno moment of\b|\bof no moment\b/,
    example: 'The copy is of no moment of the disk.',
  },
  'is no …': {
    instead: 'is not a …',
    pattern: /(?<!\bthere )\b(?:is|are|was|were|be) no (?!longer\b|more\b|one\b|later\b|less\b)\w+/i,
    example: 'What is so already is no error.',
  },
  'is none': {
    instead: 'is not a …; does not exist',
    pattern: /(?<!\bthere )\b(?:is|are|was|were|be) none\b/i,
    example: 'It throws where that is none.',
  },
  whoever: {
    instead: 'a noun: the caller, the operator, another client',
    pattern: /\b(?:whoever|whomever)\b/i,
    example: 'It is for whoever looks on.',
  },
  'who as a noun': {
    instead: 'a noun: the caller, the operator, a client that …',
    pattern: /\b(?:for|of|to|by|from|than|as|but|where|if|when|and) who (?!else\b)\w+/,
    example: 'It does not wait for who does not listen.',
  },
  'a question as the subject': {
    instead: 'a noun phrase, or a sentence that begins with its subject',
    pattern: /^(?:what|who|whose|whom|which)\b(?!.*\?)/i,
    example: 'What is left is for the others.',
  },
  'Of … in front': {
    instead: 'the subject first',
    pattern: /^Of \w+/,
    example: 'Of another limit QEMU tells in no event.',
  },
  'inverted condition': {
    instead: 'if …, once …',
    pattern: /^(?:Has|Have|Is|Are|Was|Were|Had|Should) (?:the|a|an|it|this|that|nobody)\b.*,(?!.*\?)/,
    example: 'Has the guest left, nothing is written.',
  },
  'good for nothing': {
    instead: 'cannot be used; cannot be trusted',
    pattern: /\bgood for nothing\b/,
    example: 'Its word is good for nothing.',
  },
  'such a one': {
    instead: 'the noun',
    pattern: /\bsuch (?:a|an) one\b/,
    example: 'Every job here is as such a one.',
  },
  else: {
    instead: 'otherwise',
    pattern: /(?:[,;:]|\band|\bor) else\b(?! if\b)/,
    example: 'It is taken for a success, else for one that nobody saw.',
  },
  'tell without an object': {
    instead: 'report …, say …, show …',
    pattern: /\b(?:tells?|told) (?:of|for|nothing)\b|\btells?(?=[.,;:]|$)/,
    example: 'Where /proc does not tell, all works.',
  },
  'well for all right': {
    instead: 'valid, healthy, correct, in order',
    pattern: /\b(?:is|are|be|was|has|ends?) well\b(?!-)/i,
    example: 'It is for how long that is well.',
  },
  'that there are': {
    instead: 'the existing …',
    pattern: /\bthat there (?:is|are|was|were)(?=[.,;:)]|$)/,
    example: 'It looks at the jobs that there are.',
  },
  'without a word': {
    instead: 'by default; unexpectedly',
    pattern: /\bwithout a word\b/,
    example: 'It is on without a word.',
  },
  'of now': {
    instead: 'current',
    pattern: /\bof now\b/,
    example: 'Its view is of now.',
  },
  anew: {
    instead: 'again',
    pattern: /\banew\b/,
    example: 'It is made anew.',
  },
  'comes to nothing': {
    instead: 'fails',
    pattern: /\b(?:comes?|came) to nothing\b/,
    example: 'The start came to nothing.',
  },
  'is to be': {
    instead: 'must be, has to be, will be, can be',
    pattern: /\b(?:is|are|was|were) (?:not )?to be\b/,
    example: 'The row says what is to be expected.',
  },
  'is told': {
    instead: 'is reported, is announced, gets',
    pattern: /\b(?:is|are|was|were|be|been) told\b(?! (?:to|that|so|not)\b)/,
    example: 'Each event is told once.',
  },
  'is said': {
    instead: 'is reported, is given',
    pattern: /\b(?:is|are|was|were|be|been) said\b(?! (?:to|that)\b)/,
    example: 'The cause is said in the log.',
  },
  'a participle in front': {
    instead: 'a noun phrase, or a verb in the third person',
    pattern: /^(?:Told|Said|Asked|Heard)\b/,
    example: 'Told of each call.',
  },
  'a question behind a preposition in front': {
    instead: 'a noun phrase',
    pattern: /^(?:As|With|By|For|From|Behind|Than) (?:who|whom|what|which)\b(?!.*\?)/,
    example: 'As who opens it by its header has it.',
  },
  'where for if': {
    instead: 'if …',
    pattern: /^Where\b.*,(?!.*\?)/,
    example: 'Where the file cannot be read, the order is new.',
  },
  'so many': {
    instead: 'the number of …',
    pattern: /^So (?:many|much)\b/,
    example: 'So many come at a time.',
  },
  'but for': {
    instead: 'except',
    pattern: /\bbut for\b/,
    example: 'The files are unchanged, but for the active image.',
  },
  'be it': {
    instead: 'even if it is only',
    pattern: /\bbe it (?:a|an|the)\b/,
    example: 'It says something every 15 seconds, be it a heartbeat.',
  },
  'broken off': {
    instead: 'cancelled, aborted, interrupted',
    pattern: /\b(?:broken|breaks?|broke|breaking) off\b/,
    example: 'A copy that is broken off leaves nothing.',
  },
  'taken back': {
    instead: 'undone, removed',
    pattern: /\b(?:takes?|taken|taking) (?:it |that |them )?back\b/,
    example: 'The start is taken back.',
  },
  alike: {
    instead: 'equal, in the same way',
    pattern: /\balike\b/,
    example: 'All versions show them alike.',
  },
  "nobody's": {
    instead: 'of …, with the noun',
    pattern: /\b(?:nobody|somebody|anybody|another)['’]s(?=[.,;:)]|$| (?:way|word)\b)/,
    example: 'Two that can be asked are nobody’s.',
  },
  'is so already': {
    instead: 'is already …, with the state',
    pattern: /\b(?:is|are|was|were) so (?:already|anyway|still)\b/,
    example: 'It means what is so already.',
  },
};

function filesOf(folder: string, suffixes: RegExp): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((name) => suffixes.test(name));
}

/** Names of files that people write. */
const WRITTEN =
  /\.(?:ts|js|mjs|md|go|sh|py|c|rs|java|json|ya?ml|service)$|\/(?:Dockerfile|postinst|postrm|prerm|lintian-overrides)$/;

/** Comments, strings and regular expressions of TypeScript, and comments of proto, Go, C, Rust and Java. */
const TOKENS =
  /(?<comment>(?:[ \t]*\/\/[^\n]*\n?)+|\/\*[\s\S]*?\*\/)|(?<text>'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`)|(?<=[(,=:?&|{};[]\s*|return\s+)\/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n[*])(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n[])*\/[a-z]*/g;

/** Comments of shell, Python, YAML, units and make, and strings of Python that have several lines. */
const HASHED = /(?:^[ \t]*#[^\n]*\n?)+|[ \t]#+ [^\n]*|"""[\s\S]*?"""/gm;

/** A part of a text that is not prose. */
const CODE = /`[^`]*`|\$\{[^}]*\}|\{\w+\}|<\w+>|https?:\S+/g;

/** A paragraph, an item of a list, a cell of a table: none of them goes on in another one. */
function sentencesIn(text: string): string[] {
  return text
    .split(/\n[ \t]*\n|\n[ \t]*(?=[-*|#>] ?|\d+\. )| \| |\|\n/)
    .flatMap((part) =>
      part
        .replaceAll(CODE, '…')
        .replaceAll(/\s+/g, ' ')
        .split(/(?<=[.?!;:])["')*]* /),
    )
    .map((sentence) => sentence.replace(/^[\s\-*|#>'"(…]*(?:\d+\. )?/, '').trim())
    .filter((sentence) => sentence.includes(' '));
}

function commentText(raw: string): string {
  return raw.replaceAll(/^[ \t]*(?:\/\/|\/\*\*?|\*\/|\*(?!\*)) ?/gm, '').replaceAll(/\*\/\s*$/g, '');
}

function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsIn) : [];
}

function sentencesOf(path: string, source: string): string[] {
  if (/\.(?:md|html)$/.test(path)) {
    return sentencesIn(source.replaceAll(/^[ \t]*(```|~~~)[\s\S]*?^[ \t]*\1/gm, '').replaceAll(/<[^>]*>/g, ' '));
  }
  if (!/\.(?:[jt]s|mjs|proto|go|c|rs|java)$/.test(path)) {
    const comments = [...source.matchAll(HASHED)].map(([raw]) => raw.replaceAll(/^[ \t]*#+ ?|"""/gm, ''));
    const texts = /\.(?:ya?ml|json)$/.test(path) ? parseAllDocuments(source).flatMap((one) => textsIn(one.toJS())) : [];
    return [...comments, ...texts].flatMap(sentencesIn);
  }
  return [...source.matchAll(TOKENS)].flatMap(({ groups }) => {
    if (groups?.['comment'] !== undefined) return sentencesIn(commentText(groups['comment']));
    const text = /\.(?:[jt]s|mjs)$/.test(path) ? groups?.['text']?.slice(1, -1) : undefined;
    return text === undefined ? [] : sentencesIn(text.replaceAll(/\\(['"`])/g, '$1'));
  });
}

function marksIn(path: string): string[] {
  return sentencesOf(path, readFileSync(join(ROOT, path), 'utf8')).flatMap((sentence) =>
    Object.entries(MARKS)
      .filter(([, { pattern }]) => pattern.test(sentence))
      .map(([name, { instead }]) => `${path}: "${sentence}": ${name}; write: ${instead}`),
  );
}

/** This file has the marks in its examples. */
const SELF = relative(ROOT, import.meta.filename);

const FILES = [
  'README.md',
  'Makefile',
  ...filesOf('docs', /\.md$/),
  ...filesOf('proto/blockjob', /\.proto$/),
  ...filesOf('page', /\.(?:ts|html)$/),
  ...['src', 'build', 'deploy', 'examples', 'test'].flatMap((folder) => filesOf(folder, WRITTEN)),
]
  .filter((path) => path !== SELF)
  .toSorted();

describe('words', () => {
  it.each(Object.entries(MARKS))('a sentence with "%s" is found', (_, { pattern, example }) => {
    expect(sentencesIn(example).filter((sentence) => pattern.test(sentence))).toHaveLength(1);
  });

  it.each([
    'There is no disk of this name, and there are no other jobs.',
    'The job is no longer READY.',
    'Whether the guest runs.',
    'Which image is each disk on now?',
    'The client that asked gets the error. It tells the operator what to do.',
  ])('"%s" has no mark', (text) => {
    const found = sentencesIn(text).filter((one) => Object.values(MARKS).some(({ pattern }) => pattern.test(one)));
    expect(found).toStrictEqual([]);
  });

  it('comments, strings and paragraphs are read, and code is not', () => {
    const source = `/** First one.\n *  Second one. */\nconst what = 'third one'; // Fourth one\n// goes on.\nconst is = /no one/;`;
    expect(sentencesOf('a.ts', source)).toStrictEqual([
      'First one.',
      'Second one.',
      'third one',
      'Fourth one goes on.',
    ]);
    expect(
      sentencesOf('a.md', '# A head\n\nFirst\none.\n\n```\nno code\n```\n| one cell | two cells |\n'),
    ).toStrictEqual(['A head', 'First one.', 'one cell', 'two cells']);
  });

  it('no file has any of the marks (docs/contributing.md, "Words")', () => {
    expect(FILES.flatMap(marksIn)).toStrictEqual([]);
  });
});
