#!/usr/bin/env node
/**
 * Moves the disk of a running VM to another file. The path with which the VM is started is in a database, and this
 * program owns it: the guest does not move before the database names the new path (docs/fenced-pivot.md).
 *
 *     node fenced-move.js ADDRESS DATABASE DOMAIN DISK DESTINATION [BYTES_PER_SECOND]
 *
 * DATABASE is a file of SQLite with the table `disk`. Start the program again with the same arguments after a crash of
 * it, of the service or of the host: it goes on where it was.
 */
import { randomUUID } from 'node:crypto';
import { DatabaseSync } from 'node:sqlite';
import { BlockJobClient, BlockJobError, ConfigOwner, Job_State } from 'blockjobd-client';

const TABLES = `
  CREATE TABLE IF NOT EXISTS disk (domain TEXT, disk TEXT, path TEXT NOT NULL, PRIMARY KEY (domain, disk));
  CREATE TABLE IF NOT EXISTS move (domain TEXT, disk TEXT, destination TEXT NOT NULL, request_id TEXT NOT NULL,
    token TEXT, PRIMARY KEY (domain, disk));
`;

/** The configuration of VMs. A change is on disk when its method returns. */
class Configuration {
  constructor(file, domain, disk) {
    this.db = new DatabaseSync(file, { timeout: 60_000 }); // SQLite waits for the disk at each commit by itself
    this.db.exec(TABLES);
    this.key = [domain, disk];
  }

  path() {
    const row = this.db.prepare('SELECT path FROM disk WHERE domain = ? AND disk = ?').get(...this.key);
    return row === undefined ? undefined : String(row.path);
  }

  /** The intention, before the call: a program that comes back repeats the same request. */
  begin(destination) {
    this.db
      .prepare('INSERT INTO move (domain, disk, destination, request_id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING')
      .run(...this.key, destination, randomUUID());
    const move = this.db.prepare('SELECT * FROM move WHERE domain = ? AND disk = ?').get(...this.key);
    return { destination: String(move.destination), requestId: String(move.request_id) };
  }

  /** The record: the next start of the VM uses this path. In one transaction with the token of the attempt. */
  record({ token, nextStartPath }) {
    this.together(() => {
      this.db.prepare('UPDATE disk SET path = ? WHERE domain = ? AND disk = ?').run(nextStartPath, ...this.key);
      this.db.prepare('UPDATE move SET token = ? WHERE domain = ? AND disk = ?').run(token, ...this.key);
    });
  }

  /** The move is over. `path`: the image for the next start of the VM; '' for no change. */
  end(path) {
    this.together(() => {
      if (path !== '') this.db.prepare('UPDATE disk SET path = ? WHERE domain = ? AND disk = ?').run(path, ...this.key);
      this.db.prepare('DELETE FROM move WHERE domain = ? AND disk = ?').run(...this.key);
    });
  }

  together(write) {
    this.db.exec('BEGIN IMMEDIATE');
    try {
      write();
      this.db.exec('COMMIT');
    } catch (error) {
      if (this.db.isTransaction) this.db.exec('ROLLBACK');
      throw error;
    }
  }
}

const onRetry = () => console.log('the service is away');

/** Records the new path, and only then lets the guest move. Throws if the pivot is refused. */
async function pivot(client, configuration, job, { token, nextStartPath }) {
  configuration.record({ token, nextStartPath });
  console.log(`recorded ${nextStartPath}`);
  try {
    await client.abort({
      job: { name: { $case: 'jobId', value: job.id } },
      pivot: true,
      record: { token },
      returnImmediately: true,
    });
  } catch (error) {
    // It has ended meanwhile: the watch tells how.
    if (!(error instanceof BlockJobError && ['JOB_ENDING', 'JOB_ENDED'].includes(error.reason))) throw error;
  }
}

async function main(address, file, domain, disk, destination, bandwidth = '0') {
  const configuration = new Configuration(file, domain, disk);
  if (configuration.path() === undefined) throw new Error(`the database has no disk ${disk} of ${domain}`);
  const move = configuration.begin(destination);
  if (move.destination !== destination) throw new Error(`a move to ${move.destination} has begun; end that one first`);
  using client = new BlockJobClient({ address, patienceMs: Infinity }); // for another machine: tls, with certificates
  const started = await client
    .startCopy(
      {
        disk: { domain, disk },
        destination: { target: { $case: 'file', value: move.destination } },
        bandwidthBytesPerSecond: BigInt(bandwidth),
        configOwner: ConfigOwner.CONFIG_OWNER_EXTERNAL,
        requestId: move.requestId,
      },
      { onRetry },
    )
    .catch((error) => {
      // Nothing has begun, and nothing was recorded.
      if (error instanceof BlockJobError && error.isAnswer && !error.mayHaveHappened) configuration.end('');
      throw error;
    });
  let { job } = started;
  const ref = { name: { $case: 'jobId', value: job.id } };
  console.log(`job ${job.id}`);
  if (job.configOwner !== ConfigOwner.CONFIG_OWNER_EXTERNAL) {
    await client.abort({ job: ref });
    throw new Error('this service does not know the owner of a configuration: it is too old');
  }

  let refused;
  for await (const event of client.watchJob({ job: ref }, { onRetry })) {
    ({ job } = event);
    const gate = job.pivotGate;
    if (job.state !== Job_State.STATE_READY || gate === undefined || gate.recordTime !== undefined) continue;
    if (refused !== undefined) continue;
    try {
      await pivot(client, configuration, job, gate);
    } catch (error) {
      if (!(error instanceof BlockJobError && error.isAnswer)) throw error;
      refused = error;
      await client.abort({ job: ref, returnImmediately: true });
    }
  }

  const { outcome } = job;
  if (job.state === Job_State.STATE_UNRESOLVED && outcome.nextStartPath === '') {
    // Nobody knows to which image the guest wrote last. The row of the move stays: look at both images.
    console.log('unresolved: do not start the VM before a person has looked at its images');
    return 2;
  }
  configuration.end(outcome.setConfigBackTo);
  const why = refused ?? (job.error === undefined ? '' : job.error.message);
  console.log(`the database names ${configuration.path()}${why === '' ? '' : `: ${why}`}`);
  return job.state === Job_State.STATE_COMPLETED ? 0 : 1;
}

try {
  process.exitCode = await main(...process.argv.slice(2));
} catch (error) {
  console.log(error instanceof BlockJobError ? `refused: ${error.message}` : String(error));
  process.exitCode = 1;
}
