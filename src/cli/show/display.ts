/** The interface of displays for running jobs. */
import type { fromMs, Job, JobEvent, Retry } from '../../client/index.ts';

export interface Display {
  /** How often progress is shown. */
  readonly progressInterval: ReturnType<typeof fromMs>;
  show(event: JobEvent, job: Job): void;
  /** The service does not answer. */
  lost(retry: Retry): void;
  close(): void;
}
