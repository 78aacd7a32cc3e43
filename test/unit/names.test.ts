/** A name that two files export has two meanings, or is written twice: read from the sources themselves. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const SRC = join(import.meta.dirname, '../../src');

/** What is declared and exported there; what is passed on from another file is declared in that one. */
const EXPORTED = /^export (?:abstract )?(?:async )?(?:function\*?|class|const|let|interface|type) (\w+)/gm;

const PACKED = 'src/client is packed alone';
const ETCD = 'src/fleet/etcd could be a package of its own, and so could the other';

/** The same thing, said twice for the sake of a package that stands alone. */
const TWINS: Readonly<Record<string, string>> = {
  BlockJobError: `${PACKED}: the error of a call`,
  CallOptions: `${PACKED}: how long one call may take, and what ends it`,
  Code: `${PACKED}: the codes of gRPC`,
  Endpoint: `${PACKED}: one address of the service, or of etcd`,
  Endpoints: `${PACKED}: several, of which the one that answers is used`,
  OutcomeUnknown: `${ETCD}: QEMU or etcd may have done it`,
  Reason: `${PACKED}: the reasons of the contract`,
  Refused: `${ETCD}: QEMU or etcd said no, and nothing changed`,
  dateAt: `${PACKED}: a moment of this process's clock, as a date`,
  fromMs: `${PACKED}: a duration of Protocol Buffers`,
  hasEnded: `${PACKED}: a job in a state that it does not leave`,
  isServiceError: `${PACKED}: an error as gRPC reports it`,
  retryInMs: `${ETCD}: when to try again after so many failures`,
  toMs: `${PACKED}: a duration of Protocol Buffers`,
};

describe('the names that files of src export', () => {
  it('are exported by one file each, but for twins of what stands alone', () => {
    const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
    const names = files.flatMap((file) => [
      // An overloaded function is declared more than once.
      ...new Set(
        readFileSync(join(SRC, file), 'utf8')
          .matchAll(EXPORTED)
          .map(([, name = '']) => name),
      ),
    ]);
    expect(names.length).toBeGreaterThan(500);
    const twice = [...new Set(names.filter((name, at) => names.indexOf(name) !== at))];
    expect(twice.toSorted()).toEqual(Object.keys(TWINS).toSorted());
  });
});
