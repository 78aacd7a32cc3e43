/**
 * A health check for the probes of an orchestrator, which has no certificate. `node health.js HOST:PORT CERT KEY CA`
 * calls grpc.health.v1.Health with the certificate of the service, and exits with 0 or 1. It is started every few
 * seconds, so it loads no packages.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:http2';

/** An empty gRPC message: a HealthCheckRequest for the whole server. */
const REQUEST = Buffer.from([0, 0, 0, 0, 0]);
/** A HealthCheckResponse with status SERVING. */
const SERVING = Buffer.from([0, 0, 0, 0, 2, 8, 1]);
const PATIENCE_MS = 4000;

const [address = '', cert = '', key = '', ca = ''] = process.argv.slice(2);
const session = connect(`https://${address}`, {
  cert: readFileSync(cert),
  key: readFileSync(key),
  ca: readFileSync(ca),
  minVersion: 'TLSv1.3',
  // The certificate is that of this service, and names the address that other hosts use.
  checkServerIdentity: () => undefined,
});
const end = (why: string) => {
  if (why !== '') process.stderr.write(`${why}\n`);
  process.exit(why === '' ? 0 : 1);
};
session.on('error', (error) => end(String(error)));
setTimeout(() => end(`no answer in ${PATIENCE_MS} ms`), PATIENCE_MS);

const call = session.request({
  ':method': 'POST',
  ':path': '/grpc.health.v1.Health/Check',
  'content-type': 'application/grpc',
  te: 'trailers',
});
const answer: Buffer[] = [];
call.on('error', (error) => end(String(error)));
call.on('data', (part: Buffer) => answer.push(part));
call.on('end', () => end(Buffer.concat(answer).equals(SERVING) ? '' : 'it does not serve'));
call.end(REQUEST);
