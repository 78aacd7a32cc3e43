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

This page lists every reason for which a call is refused or a job fails, and what to do.

A refused call carries a \`google.rpc.ErrorInfo\` with the domain \`blockjob.v1.ErrorReason\` and one of these reasons.
Its metadata has the identifiers, numbers and paths of the text, which are \`marked\` on this page. It also has the error
text of QEMU under \`qemuText\`. The parts in *italics* are sentences for people. They are not in the metadata.

- Invalid arguments are reported together, as \`BadRequest\` field violations.
- FAILED_PRECONDITION comes with a \`PreconditionFailure\`.
- UNAVAILABLE, and each reason that begins with TOO_MANY, comes with a \`RetryInfo\`.
- The \`Job.error\` of a failed job has the same form.
- A refused call has changed nothing. UNAVAILABLE is not a refusal: the request may have been carried out.

| reason | gRPC code | problem, and what to do | libvirt |
|---|---|---|---|
${rows.join('\n')}

An INTERNAL answer with the reason BUG is a bug of this service. It has an id, and the log has the stack trace under
this id.
`;
}

test('docs/errors.md lists exactly the reasons of the catalogue', () => {
  if (process.env['REWRITE_DOCS'] !== undefined) writeFileSync(PAGE, page());
  expect(readFileSync(PAGE, 'utf8')).toBe(page());
});
