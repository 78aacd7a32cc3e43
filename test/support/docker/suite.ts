/** A site for all tests of a suite: made before them, checked after them, shown when one fails. */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { wrongs } from './judge.ts';
import { ContainerSite, type SiteOptions } from './site.ts';

export interface Suite {
  readonly site: ContainerSite;
  /** Jobs that callers know. */
  readonly started: string[];
}

/** The last test, which `judge` registers, checks the rules that must hold whatever has happened. */
export function siteOfSuite(options: SiteOptions = {}): Suite & { readonly judge: () => void } {
  const started: string[] = [];
  let site: ContainerSite | undefined;
  const there = (): ContainerSite => {
    if (site === undefined) throw new Error('there is no site yet');
    return site;
  };
  beforeAll(async () => {
    site = await ContainerSite.start(options);
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') console.error(await site?.logs());
  });
  return {
    started,
    get site() {
      return there();
    },
    judge: () => {
      it('has lost no job, and no domain had two owners', async () => {
        expect(await wrongs(there(), started)).toEqual([]);
      });
    },
  };
}
