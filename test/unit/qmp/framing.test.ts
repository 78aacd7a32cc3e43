import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FramingError } from '../../../src/qmp/errors.ts';
import { encode, Framing } from '../../../src/qmp/framing.ts';
import { cpuMsSince } from '../../support/cpu-time.ts';

const messages = fc.array(fc.jsonValue({ stringUnit: 'binary' }), { maxLength: 8 });
const lineEnd = fc.constantFrom('\n', '\r\n', '\r\n\r\n', '\n \n');
const cuts = fc.oneof(fc.constant('every byte' as const), fc.array(fc.nat(), { maxLength: 20 }));

/** The bytes in pieces: cut at these places (modulo the length), or one by one. */
function pieces(bytes: Buffer, at: 'every byte' | number[]): Buffer[] {
  if (at === 'every byte') return Array.from(bytes, (_, index) => bytes.subarray(index, index + 1));
  const places = [0, ...at.map((place) => place % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b);
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

/** All output, up to the error if there is one. */
function read(framing: Framing, chunks: Buffer[]): { messages: unknown[]; error: unknown } {
  const out: unknown[] = [];
  for (const chunk of chunks) {
    try {
      out.push(...framing.push(chunk));
    } catch (error) {
      return { messages: [...out, ...(error instanceof FramingError ? error.before : [])], error };
    }
  }
  return { messages: out, error: undefined };
}

function emptyObjects(count: number): Buffer {
  return Buffer.from(`[${Array.from({ length: count }, () => '{}').join(',')}]\n`);
}

function isJson(bytes: Uint8Array): boolean {
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
    return true;
  } catch {
    return false;
  }
}

describe('Framing', () => {
  it('returns exactly the messages that were sent, in order, however the bytes are cut', () => {
    fc.assert(
      fc.property(messages, lineEnd, cuts, (sent, end, at) => {
        const lines = sent.map((message) => JSON.stringify(message));
        const bytes = Buffer.from(lines.map((line) => line + end).join(''));
        const framing = new Framing();
        expect(read(framing, pieces(bytes, at))).toEqual({
          messages: lines.map((line) => JSON.parse(line) as unknown),
          error: undefined,
        });
        expect(framing.unfinishedBytes).toBe(0);
      }),
    );
  });

  it('returns messages of several lines among those of one, however the bytes are cut', () => {
    const objects = fc.array(fc.record({ pretty: fc.boolean(), sent: fc.dictionary(fc.string(), fc.jsonValue()) }));
    fc.assert(
      fc.property(objects, fc.constantFrom('\n', '\r\n'), cuts, (all, end, at) => {
        // An object without members is one line to JavaScript, and two to older QEMUs.
        const texts = all.map(({ pretty, sent }) => {
          const text = JSON.stringify(sent, undefined, pretty ? 4 : undefined);
          return pretty ? (text === '{}' ? '{\n}' : text).replaceAll('\n', end) : text;
        });
        const framing = new Framing();
        const bytes = Buffer.from(texts.map((text) => text + end).join(''));
        const got = read(framing, pieces(bytes, at));
        const want = texts.map((text) => JSON.parse(text) as unknown);
        expect(got).toEqual({ messages: want, error: undefined });
        expect(framing.unfinishedBytes).toBe(0);
      }),
    );
  });

  it('takes several lines for one message, to its limit', () => {
    const framing = new Framing({ maxMessageBytes: 30 });
    expect(framing.push(Buffer.from('{\n    "a": 1,\n    "b": 2\n}\n'))).toEqual([{ a: 1, b: 2 }]);
    expect(framing.push(Buffer.from('{\n    "a": 1,'))).toEqual([]);
    expect(framing.unfinishedBytes).toBe(12);
    expect(() => framing.push(Buffer.from('\n    "b": 2,\n    "c": 3\n}\n'))).toThrow(/longer than 30 bytes/);
  });

  it('joins a character that two chunks share, at each possible cut', () => {
    const bytes = Buffer.from('{"name":"é漢😀"}\r\n');
    for (let place = 0; place <= bytes.length; place++) {
      expect(read(new Framing(), pieces(bytes, [place])).messages).toEqual([{ name: 'é漢😀' }]);
    }
  });

  it('returns the messages before garbage and then FramingError, however the bytes are cut', () => {
    const garbage = fc
      .uint8Array({ minLength: 1, maxLength: 30 })
      .filter(
        (bytes) => !bytes.includes(0x0a) && !isJson(bytes) && !['', '{'].includes(Buffer.from(bytes).toString().trim()),
      );
    fc.assert(
      fc.property(messages, garbage, messages, cuts, (before, bad, after, at) => {
        const bytes = Buffer.concat([
          Buffer.from(before.map(encode).join('')),
          bad,
          Buffer.from(`\n${after.map(encode).join('')}`),
        ]);
        const result = read(new Framing(), pieces(bytes, at));
        expect(result.error).toBeInstanceOf(FramingError);
        expect(result.messages).toEqual(before.map((message) => JSON.parse(encode(message)) as unknown));
      }),
    );
  });

  it('stays broken after garbage, because nobody knows where the next message begins', () => {
    const framing = new Framing();
    expect(() => framing.push(Buffer.from('hello\n'))).toThrow(FramingError);
    expect(() => framing.push(Buffer.from('{}\n'))).toThrow(FramingError);
  });

  it('refuses bytes that are not UTF-8 rather than replace them', () => {
    expect(() => new Framing().push(Buffer.from([0x22, 0xff, 0x22, 0x0a]))).toThrow(FramingError);
  });

  it('reads 32 MiB in one line of many chunks in linear time', { timeout: 60_000 }, () => {
    const text = 'x'.repeat(32 * 1024 * 1024 - 2);
    const bytes = Buffer.from(`"${text}"\r\n`);
    const chunks = Array.from({ length: Math.ceil(bytes.length / 65536) }, (_, index) =>
      bytes.subarray(index * 65536, (index + 1) * 65536),
    );
    const framing = new Framing({ maxMessageBytes: bytes.length });
    const began = process.threadCpuUsage();
    const got = chunks.flatMap((chunk) => framing.push(chunk));
    // Linear work takes a tenth of a second; to copy or search everything at each chunk takes half a minute.
    expect(cpuMsSince(began)).toBeLessThan(5_000);
    expect(got.length).toBe(1);
    expect(got[0] === text).toBe(true);
  });

  it('takes a message of exactly the limit, and throws at the first byte over it without a line end', () => {
    const framing = new Framing({ maxMessageBytes: 10 });
    expect(framing.push(Buffer.from('"12345678"\n'))).toEqual(['12345678']);
    expect(framing.push(Buffer.from('"123456789'))).toEqual([]);
    expect(() => framing.push(Buffer.from('x'))).toThrow(/longer than 10 bytes/);
  });

  it('has a limit of 16 MiB by default', () => {
    const framing = new Framing();
    framing.push(Buffer.alloc(16 * 1024 * 1024, 'x'));
    expect(() => framing.push(Buffer.from('x'))).toThrow(FramingError);
  });

  it('refuses a message of more values than a QEMU has, which would cost many times its bytes', () => {
    const [fine] = new Framing().push(emptyObjects(250_000));
    expect(fine).toHaveLength(250_000);
    expect(() => new Framing().push(emptyObjects(500_000))).toThrow(/more than 524288 values/);
  });

  it('reports how much it holds, each line of a message with its cost', () => {
    const held: number[] = [];
    const framing = new Framing({ hold: (bytes) => void held.push(bytes) });
    framing.push(Buffer.from(`{${'\n'.repeat(1000)}`));
    framing.push(Buffer.from('x'.repeat(500)));
    expect(Math.max(...held)).toBeGreaterThan(30_000);
  });

  it('holds a line that comes byte by byte in few pieces', () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    collect();
    const before = process.memoryUsage().heapUsed;
    const framing = new Framing();
    for (let at = 0; at < 200_000; at += 1) framing.push(Buffer.from('x'));
    collect();
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(5_000_000);
    expect(framing.unfinishedBytes).toBe(200_000);
  });

  it('reports a message that has begun and not ended', () => {
    const framing = new Framing();
    framing.push(Buffer.from('{}\n{"eve'));
    expect(framing.unfinishedBytes).toBe(5);
  });

  it('returns integers above 2^53 as the nearest double', () => {
    expect(new Framing().push(Buffer.from('{"speed":9223372036854775807}\r\n'))).toEqual([{ speed: 2 ** 63 }]);
  });
});

describe('encode', () => {
  it('writes one line, whatever the strings hold, which Framing reads back', () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: 'binary' }), (message) => {
        const line = encode(message);
        expect(line.indexOf('\n')).toBe(line.length - 1);
        expect(new Framing().push(Buffer.from(line))).toEqual([JSON.parse(line)]);
      }),
    );
  });
});
