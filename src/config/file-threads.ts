/**
 * Gives Node more threads for files than its four, which storage that hangs has soon taken (src/agent/disk-files.ts). Node
 * reads this once, at its first file: so it is imported before all else.
 */
const LEAST = 64;
const GIVEN = Number(process.env['UV_THREADPOOL_SIZE'] ?? 0);

process.env['UV_THREADPOOL_SIZE'] = String(GIVEN > LEAST ? GIVEN : LEAST);
