/**
 * Does an NBD server answer? QEMU waits for one that does not with its guest's CPUs and all its monitors standing still,
 * and `yank` does not help it: so we ask first. The server's greeting comes before anything is asked of it, with TLS, too.
 * Source: the NBD project's proto.md, "Protocol phases".
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { NbdServer } from '../../core/destination.ts';
import { fail } from '../../core/errors.ts';
import { abortAfter } from '../../lib/timer.ts';

const GREETING = 'NBDMAGIC';
/** As long as QEMU is given to open it, where it takes a limit. */
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
    const why = limit.aborted ? `it says nothing for ${seconds} seconds` : inWords(error);
    fail('DESTINATION_UNREACHABLE', { path, why });
  } finally {
    socket.destroy();
  }
  if (!said.startsWith(GREETING)) fail('DESTINATION_UNREACHABLE', { path, why: 'what answers is no NBD server' });
}

function inWords(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
