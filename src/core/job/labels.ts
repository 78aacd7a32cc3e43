/** What a job is told apart by: who began it, and the words that they gave it. */

export type Labels = Readonly<Record<string, string>>;

/** Which jobs are meant. '' and none: whichever. */
export interface JobFilter {
  /** The domain's name or UUID. */
  readonly domain: string;
  readonly labels?: Labels;
  readonly createdBy?: string;
}

export interface Labelled {
  /** Undefined: none, as in older journals. */
  readonly labels?: Labels;
  /** The caller who began the job. Undefined: it had no name, or an older service began it. */
  readonly createdBy?: string;
}

export function hasLabels({ labels = {}, createdBy = '' }: Labelled, asked: Omit<JobFilter, 'domain'>): boolean {
  const { createdBy: by = '' } = asked;
  if (by !== '' && by !== createdBy) return false;
  return Object.entries(asked.labels ?? {}).every(
    ([key, value]) => Object.hasOwn(labels, key) && labels[key] === value,
  );
}

export type Placed = Labelled & { readonly domain: string; readonly domainUuid: string | undefined };

export function isMeant(job: Placed, { domain, ...asked }: JobFilter): boolean {
  const isThere = domain === '' || job.domain === domain || job.domainUuid === domain.toLowerCase();
  return isThere && hasLabels(job, asked);
}
