/**
 * The command as one file, without anything beside it: it starts in a fifth of the time, because Node reads one file and
 * not 200. From a command line: `bundle.ts ENTRY FILE`.
 */
import { chmodSync, renameSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import { build, type Plugin } from 'esbuild';

/** Packages of CommonJS ask for Node's modules so. */
const REQUIRE = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";

const GRPC = '@grpc/grpc-js';

/** The stubs are made where they are declared: such a class loads gRPC when it gets its first object. */
const LATE_STUBS = `makeGenericClientConstructor: (...made) => {
  let Stub;
  return function (...given) { return new (Stub ??= load().makeGenericClientConstructor(...made))(...given); };
}`;

/** gRPC is loaded at its first use: it takes as long as the rest of the command, which needs it only for calls. */
const LATE_GRPC: Plugin = {
  name: 'late gRPC',
  setup: (command) => {
    const [filter, namespace] = [new RegExp(`^${GRPC}$`), 'late'];
    command.onResolve({ filter }, ({ namespace: asker }) =>
      asker === namespace ? undefined : { path: GRPC, namespace },
    );
    const names = Object.keys(grpc).filter((name) => !LATE_STUBS.startsWith(name));
    const getters = names.map((name) => `get ${name}() { return load().${name}; }`);
    const members = [...getters, LATE_STUBS].join(',\n');
    const contents = `let loaded;\nconst load = () => (loaded ??= require('${GRPC}'));\nmodule.exports = {\n${members}\n};`;
    command.onLoad({ filter, namespace }, () => ({ contents, resolveDir: import.meta.dirname }));
  },
};

/** Replaces the file in one step: a command that starts meanwhile reads the old file or the new one. */
export async function bundle(entry: string, file: string): Promise<void> {
  const unfinished = `${file}.${process.pid}`;
  await build({
    entryPoints: [entry],
    outfile: unfinished,
    bundle: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    banner: { js: REQUIRE },
    legalComments: 'none',
    logLevel: 'warning',
    plugins: [LATE_GRPC],
  });
  chmodSync(unfinished, 0o755);
  renameSync(unfinished, file);
}

const [entry, file] = process.argv.slice(2);
if (import.meta.main && entry !== undefined && file !== undefined) await bundle(entry, file);
