/**
 * Node has four threads for all files, and storage that hangs soon blocks them: so it gets more
 * (src/agent/host/disk-files.ts). Node reads this once, at its first file, so this must be imported first.
 */
const LEAST = 64;
const GIVEN = Number(process.env['UV_THREADPOOL_SIZE'] ?? 0);

process.env['UV_THREADPOOL_SIZE'] = String(GIVEN > LEAST ? GIVEN : LEAST);
