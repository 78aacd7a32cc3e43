/** docs/errors.md is the catalogue: `make rewrite-docs` writes it, this holds it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { catalogue } from '../../src/core/catalogue.ts';

const PAGE = join(import.meta.dirname, '../../docs/errors.md');

function page(): string {
  const rows = Object.entries(catalogue).map(([reason, { code, libvirt, text }]) => {
    const shown = text
      .replaceAll(/\{(\w+)\}/g, '`$1`')
      .replaceAll(/<(\w+)>/g, '*$1*')
      .replaceAll('|', '\\|');
    return `| ${reason} | ${code} | ${shown} | ${libvirt} |`;
  });
  return `# Errors

Every refused call carries a \`google.rpc.ErrorInfo\` with domain \`blockjob.v1.ErrorReason\`, one of these reasons, and in its metadata
the identifiers, numbers and paths that vary in the text (\`marked\` here), and QEMU's own words under \`qemuText\`. What is
*written so* is a sentence for people, and only in the text. Wrong arguments come all at once, as \`BadRequest\` field violations;
FAILED_PRECONDITION comes with a \`PreconditionFailure\`, UNAVAILABLE and what begins with TOO_MANY with a \`RetryInfo\`. \`Job.error\` of a job that ended
badly has the same form. A refused call has changed nothing; UNAVAILABLE says that it may have.

| reason | gRPC code | what is wrong, and what to do | libvirt |
|---|---|---|---|
${rows.join('\n')}

An INTERNAL answer that is a bug of this service has the reason BUG and an id; its log has the stack under that id.
`;
}

test('docs/errors.md lists exactly the reasons of the catalogue', () => {
  if (process.env['REWRITE_DOCS'] !== undefined) writeFileSync(PAGE, page());
  expect(readFileSync(PAGE, 'utf8')).toBe(page());
});
