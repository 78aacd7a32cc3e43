/** A person can reach each view of the page, and docs/page.md describes it. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { present } from '../../support/checks.ts';
import { DocPage } from '../../support/doc-page.ts';

it('page/views has the views that the page shows, and docs/page.md a row for each', () => {
  const views = readdirSync('page/views');
  const shown = readFileSync('page/page.ts', 'utf8').matchAll(/from '\.\/views\/(\S+)'/g);
  expect(new Set([...shown].map(([, file]) => file))).toEqual(new Set(views));
  expect(present(new DocPage('page.md').section('Views').tables[0])).toHaveLength(views.length);
});
