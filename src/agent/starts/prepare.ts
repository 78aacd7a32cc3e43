/** Turns a valid request into a job that can begin: each throws the reason against it, and changes nothing. */
import type { Accepted } from '../../core/job/journal-entry.ts';
import type { CommitSpec } from '../../core/rules/commit.ts';
import type { RebaseSpec } from '../../core/rules/rebase.ts';
import { prepareCommit } from './prepare-commit.ts';
import { prepareCopy } from './prepare-copy.ts';
import { preparePull } from './prepare-pull.ts';
import type { Site } from './site.ts';

export type StartSpec = RebaseSpec | { readonly does: 'commit'; readonly commit: CommitSpec };

export async function prepare(spec: StartSpec, site: Site): Promise<Accepted> {
  switch (spec.does) {
    case 'copy':
      return await prepareCopy(spec.copy, site);
    case 'pull':
      return await preparePull(spec.pull, site);
    case 'commit':
      return await prepareCommit(spec.commit, site);
  }
}
