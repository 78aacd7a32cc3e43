/** `buf curl`: a gRPC client that knows this service only by reflection. */
import { join } from 'node:path';
import { type Finished, run } from './real-qemu/qemu.ts';
import { REPOSITORY } from './service/service.ts';

export const BUF = join(REPOSITORY, 'node_modules/.bin/buf');
const DESCRIPTORS = join(REPOSITORY, 'generated/blockjob.binpb');

export type Json = Readonly<Record<string, unknown>>;

export interface Answer extends Finished {
  /** Every message that was printed. */
  readonly messages: readonly Json[];
  /** The contents of an error: gRPC's code, in words, and its details. */
  readonly error:
    | { readonly code: string; readonly message: string; readonly details: readonly BufDetail[] }
    | undefined;
}

export interface BufDetail {
  readonly type: string;
  /** The detail's bytes, in base64. */
  readonly value: string;
}

/** Any exit status is an answer: buf's is the gRPC code times 8. */
const ANY_STATUS = Array.from({ length: 256 }, (_, status) => status);

/** `address` as the service prints it: unix:/PATH or HOST:PORT. */
export async function bufCurl(
  address: string,
  what: string,
  request?: Json,
  more: readonly string[] = [],
): Promise<Answer> {
  const unix = address.startsWith('unix:') ? ['--unix-socket', address.slice('unix:'.length)] : [];
  const url = unix.length > 0 ? 'http://localhost' : `http://${address}`;
  const target = what.startsWith('--') ? [url, what] : [`${url}/${what}`];
  const data = request === undefined ? [] : ['--data', JSON.stringify(request)];
  const args = ['curl', '--protocol', 'grpc', '--http2-prior-knowledge', ...unix, ...data, ...more, ...target];
  const finished = await run(BUF, args, { accept: ANY_STATUS });
  const failed = finished.stderr.indexOf('{');
  return {
    ...finished,
    messages: what.startsWith('--') ? [] : jsonsOf(finished.stdout),
    error: finished.code === 0 || failed === -1 ? undefined : JSON.parse(finished.stderr.slice(failed)),
  };
}

/** Objects one after the other, each over several lines. */
function jsonsOf(text: string): Json[] {
  return text
    .split(/^(?=\{)/m)
    .filter((part) => part.trim() !== '')
    .map((part) => JSON.parse(part) as Json);
}

/** Decodes a detail, by `buf convert` and the service's own descriptors. */
export async function decodeDetail({ type, value }: BufDetail): Promise<Json> {
  const script = 'printf %s "$1" | base64 -d | "$2" convert "$3" --type "$4" --from -#format=binpb --to -#format=json';
  const padded = value.padEnd(Math.ceil(value.length / 4) * 4, '=');
  const { stdout } = await run('sh', ['-c', script, 'sh', padded, BUF, DESCRIPTORS, type]);
  return JSON.parse(stdout) as Json;
}
