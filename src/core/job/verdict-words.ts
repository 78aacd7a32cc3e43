/** A verdict on a job as a sentence, with its numbers and a way out. */
import type { EndVerdict } from './convergence.ts';

/** The smallest granularity of QEMU that is of use: a guest does not write less. */
const FINEST_BYTES = 4096;
/** A change that leaves less room than this does not help for sure. */
const ENOUGH = 0.9;

export function verdictInWords(verdict: EndVerdict): string {
  const { convergence, because, bytesPerSecond, demandBytesPerSecond: demand, floorBytes } = verdict;
  switch (because) {
    case 'ENDS':
      if (convergence === 'SETTLED') return 'keeps in step with the guest';
      return demand === 0
        ? 'will end at this rate'
        : `will end at this rate: copies ${rate(bytesPerSecond)}, and ${guestInWords(verdict)}`;
    case 'NOTHING_COPIED':
      return 'copies nothing: the storage does not answer, or another program holds it up';
    case 'LIMIT':
    case 'GUEST':
      return [
        `will not end at this rate: ${whyNoEnd(verdict)}`,
        floorBytes > 0 ? `about ${sizeInWords(floorBytes)} always remain` : undefined,
        `try ${adviceOn(verdict)}`,
      ]
        .filter((part) => part !== undefined)
        .join('; ');
  }
}

/** The numbers because of which a job does not end. */
export function whyNoEnd(verdict: EndVerdict): string {
  return `${guestInWords(verdict)}, and ${rate(verdict.bytesPerSecond)} are copied`;
}

function guestInWords({
  demandBytesPerSecond,
  guestBytesPerSecond,
  guestWriteBytes,
  granularityBytes,
}: EndVerdict): string {
  if (demandBytesPerSecond === 0) return 'the guest’s own writes take the speed of the copy';
  const writes = `the guest writes ${rate(guestBytesPerSecond)} in blocks of ${sizeInWords(guestWriteBytes)}`;
  if (demandBytesPerSecond <= guestBytesPerSecond * 1.1) return writes;
  return `${writes}, which dirty ${rate(demandBytesPerSecond)} in units of ${sizeInWords(granularityBytes)}`;
}

function adviceOn(verdict: EndVerdict): string {
  const { because, bytesPerSecond, demandBytesPerSecond, guestBytesPerSecond, guestWriteBytes } = verdict;
  if (because === 'LIMIT')
    return `a speed limit above ${rate(demandBytesPerSecond)}, or an end policy with such a ceiling`;
  if (demandBytesPerSecond === 0) return 'a faster destination';
  const finest = guestBytesPerSecond * Math.max(1, FINEST_BYTES / Math.max(1, guestWriteBytes));
  if (verdict.granularityBytes > FINEST_BYTES && finest < bytesPerSecond * ENOUGH)
    return `a new copy with a granularity of ${sizeInWords(FINEST_BYTES)}, which makes ${rate(finest)} of it`;
  return 'a faster destination, write mode BLOCKING, an end policy that switches to it or slows the guest down, or a quieter hour of the guest';
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `4 KiB`, `2.0 MiB`. */
export function sizeInWords(bytes: number): string {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${(bytes / 1024 ** power).toFixed(power < 2 ? 0 : 1)} ${UNITS[power]}`;
}

function rate(bytesPerSecond: number): string {
  return `${sizeInWords(bytesPerSecond)}/s`;
}
