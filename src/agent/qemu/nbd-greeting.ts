/**
 * Whether an NBD server answers. QEMU waits for one that does not with its guest's CPUs and all its monitors stopped,
 * and `yank` does not help: so this service tries first. The server's greeting comes before any request, also with TLS.
 * Source: the NBD project's proto.md, "Protocol phases".
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { NbdServer } from '../../core/destination.ts';
import { fail } from '../../core/errors.ts';
import { abortAfter } from '../../lib/timer.ts';

const GREETING = 'NBDMAGIC';
/** The time that QEMU gets to open it, if it takes a limit. */
const LIMIT_MS = 5000;

/** Throws DESTINATION_UNREACHABLE. `path` is for the message. */
export async function expectGreeting(server: NbdServer, path: string, limitMs = LIMIT_MS): Promise<void> {
  const socket = connect(server.kind === 'unix' ? { path: server.path } : { host: server.host, port: server.port });
  const limit = abortAfter(limitMs);
  let said = '';
  try {
    const ended = once(socket, 'close', { signal: limit });
    socket.setEncoding('latin1').on('data', (text: string) => {
      said += text;
      if (said.length >= GREETING.length) socket.destroy();
    });
    await ended;
  } catch (error) {
    const seconds = limitMs / 1000;
    const why = limit.aborted ? `it does not answer for ${seconds} seconds` : inWords(error);
    fail('DESTINATION_UNREACHABLE', { path, why });
  } finally {
    socket.destroy();
  }
  if (!said.startsWith(GREETING)) fail('DESTINATION_UNREACHABLE', { path, why: 'it is not an NBD server' });
}

function inWords(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
