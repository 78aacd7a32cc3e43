/** Whatever shows jobs while they run. */
import type { fromMs, Job, JobEvent, Retry } from '../../client/index.ts';

export interface Display {
  /** How often progress is worth being told. */
  readonly progressInterval: ReturnType<typeof fromMs>;
  show(event: JobEvent, job: Job): void;
  /** The service is away. */
  lost(retry: Retry): void;
  close(): void;
}
