/** The numbers of each job since the page was opened: the service keeps only the latest ones. */
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { Job } from '../generated/es/blockjob/v1/job_pb.js';

export interface Sample {
  /** Seconds since 1970, on the host's clock. */
  readonly time: number;
  readonly bytesPerSecond: number;
  readonly dirtyBytesPerSecond: number;
  readonly remainingBytes: number;
}

/** Ten minutes, with one sample per second. */
const LONGEST = 600;

export class History {
  readonly #samples = new Map<string, Sample[]>();

  /** Adds the numbers of a job; a repeated one counts once, whichever call it comes from. */
  add({ id, progress }: Job): void {
    if (progress?.sampleTime === undefined) return;
    const samples = this.#samples.get(id) ?? [];
    this.#samples.set(id, samples);
    const time = timestampMs(progress.sampleTime) / 1000;
    if (time <= (samples.at(-1)?.time ?? 0)) return;
    samples.push({
      time,
      bytesPerSecond: Number(progress.bytesPerSecond),
      dirtyBytesPerSecond: Number(progress.dirtyBytesPerSecond),
      remainingBytes: Number(progress.remainingBytes),
    });
    if (samples.length > LONGEST) samples.shift();
  }

  of(jobId: string): readonly Sample[] {
    return this.#samples.get(jobId) ?? [];
  }

  /** Drops the numbers of jobs that are no longer shown. */
  keepOnly(jobIds: ReadonlySet<string>): void {
    for (const id of this.#samples.keys()) if (!jobIds.has(id)) this.#samples.delete(id);
  }
}
