/** Sizes, speeds and times as people write and read them. Units are those of virsh: K and KiB are 1024, KB is 1000. */
import { InvalidArgumentError } from 'commander';

const LETTERS = ['K', 'M', 'G', 'T', 'P', 'E'];
const MIB = 1n << 20n;
/** The contract's numbers have a sign. */
const MOST = 2n ** 63n - 1n;

function multiplierOf(unit: string): bigint | undefined {
  const upper = unit.toUpperCase();
  if (upper === '' || upper === 'B') return 1n;
  const found = /^([KMGTPE])(I?B)?$/.exec(upper);
  const [, letter, rest] = found ?? [];
  if (letter === undefined) return undefined;
  return (rest === 'B' ? 1000n : 1024n) ** BigInt(LETTERS.indexOf(letter) + 1);
}

/** `plain`: the unit of a number without one. */
function parse(text: string, plain: bigint, example: string): bigint {
  const [, whole = '', fraction, unit = ''] = /^(\d+)(\.\d+)?\s*([A-Za-z]*)$/.exec(text.trim()) ?? [];
  const multiplier = unit === '' ? plain : multiplierOf(unit);
  if (whole === '' || multiplier === undefined) throw new InvalidArgumentError(`Give ${example}.`);
  const value =
    fraction === undefined
      ? BigInt(whole) * multiplier
      : BigInt(Math.round(Number(`${whole}${fraction}`) * Number(multiplier)));
  if (value > MOST) throw new InvalidArgumentError(`Give ${example}; at most ${MOST} in all.`);
  return value;
}

/** Bytes. */
export function parseSize(text: string): bigint {
  return parse(text, 1n, 'a size such as 65536, 64KiB or 1M');
}

/** Bytes per second. A number without a unit is in MiB/s, as in virsh, or in bytes with --bytes. */
export function bandwidthFrom(text: string, isInBytes: boolean): bigint {
  const perSecond = text.trim().replace(/\/s(ec)?$/, '');
  return parse(
    perSecond,
    isInBytes ? 1n : MIB,
    'a speed such as 100MiB, 1.5G or 0 (no limit); the default unit is MiB/s',
  );
}

/** Checks the text and returns it unchanged: another option gives the unit of a number without one. */
export function parseBandwidth(text: string): string {
  bandwidthFrom(text, false);
  return text;
}

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Milliseconds. */
export function parseDuration(text: string): number {
  const whole = /^\d+(\.\d+)?$/.test(text) ? `${text}s` : text;
  const parts = [...whole.matchAll(/(\d+(?:\.\d+)?)([smhd])/g)];
  const isAll = parts.map(([part]) => part).join('') === whole;
  const ms = parts.reduce((sum, [, count, unit]) => sum + Number(count) * (SECONDS[unit ?? ''] ?? 0) * 1000, 0);
  if (!isAll || ms <= 0) throw new InvalidArgumentError('Give seconds, or a time such as 90s, 5m or 1h30m.');
  return ms;
}

export function bytes(count: bigint | number): string {
  let value = Number(count);
  let unit = 'B';
  for (const letter of LETTERS) {
    if (value < 1024) break;
    value /= 1024;
    unit = `${letter}iB`;
  }
  const digits = unit === 'B' || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${unit}`;
}

export function speed(bytesPerSecond: bigint | number): string {
  return `${bytes(bytesPerSecond)}/s`;
}

/** The two largest units: `2 h 5 min`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  if (first === -1) return '0 s';
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}
