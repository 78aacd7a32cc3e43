/** The marks by which a client finds its jobs: the caller who began a job, and the labels that it gave to the job. */

export type Labels = Readonly<Record<string, string>>;

/** Selects jobs. '' or undefined selects all. */
export interface JobFilter {
  /** The domain's name or UUID. */
  readonly domain: string;
  readonly labels?: Labels;
  readonly createdBy?: string;
}

/** The jobs of a watch. */
export interface WatchFilter extends JobFilter {
  /** Leaves ended jobs out of each snapshot. Undefined: false. */
  readonly activeOnly?: boolean;
}

export interface Labelled {
  /** Undefined if it has none, as in older journals. */
  readonly labels?: Labels;
  /** The caller who began the job. Undefined if it had no name, or if an older service began the job. */
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
