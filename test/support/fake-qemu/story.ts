/**
 * A story: the requests, the journal entries, and the messages to and from QEMU, in one text that a reviewer reads.
 *
 *   caller  ▸  a request            journal 7   an entry that is on disk      ·  the test's own word
 *   caller  ◂  its answer           → a command to QEMU    ← QEMU's answer or event    ✗ a message that is lost
 *                                   ⇒ a call of the gateway to an agent
 *
 * Entries are read from the journal's file when a command arrives at QEMU: those above a command were on disk before
 * QEMU heard of it. Questions to QEMU are left out, since how often it is asked depends on time.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Call, Started } from '../../../src/core/block-jobs.ts';
import { BlockJobError } from '../../../src/core/errors.ts';
import { entryInWords } from '../../../src/core/job/entry-words.ts';
import { IS_ENTRY } from '../../../src/core/job/job-event.ts';
import type { JobView } from '../../../src/core/job/job-view.ts';
import type { JournalEntry } from '../../../src/core/job/journal-entry.ts';
import type { AbortRequest, CommitRequest, CopyRequest, RebaseRequest } from '../../../src/core/requests.ts';
import { qcow2 } from '../images/qcow2-header.ts';
import { type DiskSpec, testDir } from '../real-qemu/qemu.ts';
import { copyTo, PATIENT } from '../service/agent.ts';
import { FakeQemu, type Line, QUESTION } from './fake-qemu.ts';
import { CALLER, type Serves, type StoryPlace, type StoryService, serveStory } from './story-service.ts';

const WIDTH = 118;
const CALL: Call = { ...PATIENT, caller: CALLER };
const DISK = { domain: 'vm1', disk: 'vd0' };
const PLAIN = {
  disk: DISK,
  base: '',
  flags: [],
  bandwidth: 0n,
  requestId: '',
  validateOnly: false,
  planEtag: '',
  accept: [],
};

interface StoryOptions {
  readonly disk?: Partial<DiskSpec>;
  /** Images below the active one, the lowest first. */
  readonly lower?: readonly string[];
  /** AGENT by default. */
  readonly serves?: Serves;
}

export class Story implements AsyncDisposable {
  readonly qemu: FakeQemu;
  readonly dir: string;
  readonly #lines: string[] = [];
  readonly #cleanUp: AsyncDisposableStack;
  readonly #serves: Serves;
  readonly #place: StoryPlace;
  #service: StoryService;
  /** The number of entries in the text so far; the watch reads them for a journal that is removed in the end. */
  #told = 0;
  #watched: string[] = [];
  #watch: Promise<void> | undefined;
  /** The messages to the caller's watch. */
  readonly #heardByWatcher: string[] = [];
  #watcher: Promise<void> | undefined;
  readonly #whenCommanded = new Map<string, () => void>();
  #isKilled = false;
  #isOver = false;
  readonly #stop = new AbortController();

  private constructor(
    qemu: FakeQemu,
    by: { readonly serves: Serves; readonly place: StoryPlace; readonly service: StoryService },
    cleanUp: AsyncDisposableStack,
  ) {
    this.dir = by.place.dir;
    this.qemu = qemu;
    this.#serves = by.serves;
    this.#place = by.place;
    this.#service = by.service;
    this.#cleanUp = cleanUp;
  }

  /** A VM vm1 with a disk vd0, and its server. */
  static async begin(title: string, { disk, lower = [], serves = 'AGENT' }: StoryOptions = {}): Promise<Story> {
    await using cleanUp = new AsyncDisposableStack();
    const { path: dir } = cleanUp.use(await testDir('bj-story-'));
    const held: { story?: Story } = {};
    const names = [...lower, 'disk'];
    for (const [index, name] of names.entries()) {
      const backing = names[index - 1];
      const below = backing === undefined ? {} : { backingFile: `${dir}/${backing}.qcow2`, backingFormat: 'qcow2' };
      await writeFile(`${dir}/${name}.qcow2`, lower.length === 0 ? '' : qcow2({ size: 1_048_576n, ...below }));
    }
    const spec = {
      id: 'vd0',
      bus: 'virtio-blk',
      chain: names.map((name) => ({ format: 'qcow2', path: `${dir}/${name}.qcow2` })),
      ...disk,
    } as DiskSpec;
    const qemu = cleanUp.use(
      await FakeQemu.start({
        socketPath: `${dir}/qmp.sock`,
        name: 'vm1',
        disks: [spec],
        sizeBytes: 1024 * 1024,
        onLine: (line) => held.story?.heard(line),
      }),
    );
    const onAsked = (host: string, rpc: string) => held.story?.asked(host, rpc);
    const place: StoryPlace = { dir, socketPath: `${dir}/qmp.sock`, onAsked };
    const service = await serveStory(serves, place);
    const story = new Story(qemu, { serves, place, service }, cleanUp.move());
    held.story = story;
    story.#lines.push(...title.split('\n').map((line) => `# ${line}`));
    return story;
  }

  /** A remark of the test. */
  say(text: string): void {
    this.#entries();
    if (text.includes('▸')) this.#lines.push('');
    this.#lines.push(`· ${text}`);
  }

  async startCopy(more: Partial<CopyRequest> = {}): Promise<string | undefined> {
    this.say(`caller ▸ StartCopy vm1/vd0 to /copy.qcow2${inShort(more)}`);
    return await this.#started('StartCopy', this.#service.jobs.startCopy(copyTo(`${this.dir}/copy.qcow2`, more), CALL));
  }

  async rebase(more: Partial<RebaseRequest> = {}): Promise<string | undefined> {
    this.say(`caller ▸ Rebase vm1/vd0${inShort(more)}`);
    return await this.#started('Rebase', this.#service.jobs.rebase({ ...PLAIN, overcommit: false, ...more }, CALL));
  }

  async commit(more: Partial<CommitRequest>): Promise<string | undefined> {
    this.say(`caller ▸ Commit vm1/vd0${inShort(more)}`);
    return await this.#started('Commit', this.#service.jobs.commit({ ...PLAIN, top: '', ...more }, CALL));
  }

  async #started(rpc: string, started: Promise<Started>): Promise<string | undefined> {
    const job = started.then((answer) => {
      if ('etag' in answer) throw new Error('a plan was not asked for');
      return answer;
    });
    return (await this.#answer(rpc, job, true))?.job.accepted.job;
  }

  async abort(job: string, more: Partial<AbortRequest> = {}): Promise<void> {
    const request = {
      job: { jobId: job },
      pivot: false,
      returnImmediately: false,
      force: false,
      pauseGuest: undefined,
      requestId: '',
      ...more,
    };
    this.say(`caller ▸ Abort JOB${inShort(more)}`);
    await this.#answer('Abort', this.#service.jobs.abort(request, CALL));
  }

  async resume(job: string): Promise<void> {
    this.say('caller ▸ Resume JOB');
    await this.#answer('Resume', this.#service.jobs.resume({ job: { jobId: job }, requestId: '' }, CALL));
  }

  /** From the first entry to the end of the job. Its messages come at the end of the story. */
  async watch(job: string): Promise<void> {
    this.say('caller ▸ WatchJob JOB after_revision=0');
    const begun = Promise.withResolvers<void>();
    const request = { job: { jobId: job }, afterRevision: 0, progressIntervalMs: undefined };
    this.#watcher = (async () => {
      for await (const { type, job: then, detail } of this.#service.jobs.watch(request, CALL)) {
        if (!IS_ENTRY[type]) continue;
        this.#heardByWatcher.push(`${String(then.revision).padStart(2)} ${type.padEnd(7)} ${then.state}: ${detail}`);
        begun.resolve();
      }
    })();
    await begun.promise;
  }

  async #answer(rpc: string, answer: Promise<JobView>, isStart = false): Promise<JobView | undefined> {
    try {
      const view = await answer;
      this.say(`caller ◂ ${rpc}: OK, the job is ${view.job.state}`);
      return view;
    } catch (error) {
      if (!(error instanceof BlockJobError)) throw error;
      // The messages of the watch are all that is left of a start that is undone.
      if (isStart) await this.#watch;
      this.say(`caller ◂ ${rpc}: ${this.#isKilled ? 'no answer' : error.message}`);
      return undefined;
    }
  }

  async until(job: string, ...states: readonly JobView['job']['state'][]): Promise<void> {
    const request = { job: { jobId: job }, afterRevision: undefined, progressIntervalMs: undefined };
    let last: JobView['job']['state'] = 'STARTING';
    for await (const event of this.#service.agent.watch(request, PATIENT)) {
      last = event.job.state;
      if (states.includes(last)) break;
    }
    this.say(`the job is ${last}`);
  }

  /** Resolves when the journal has this entry. */
  async untilTold(job: string, words: string): Promise<void> {
    const request = { job: { jobId: job }, afterRevision: 0, progressIntervalMs: undefined };
    for await (const { detail } of this.#service.agent.watch(request, PATIENT)) if (detail.includes(words)) break;
    this.#entries();
  }

  /** An action for the time when this command comes to QEMU, before it is executed. */
  when(command: string, happens: () => void): void {
    this.#whenCommanded.set(command, happens);
  }

  /** Kills the service when that command has come to QEMU, which executes it nevertheless. */
  killServiceAt(command: string): void {
    this.qemu.dropConnectionAfter(command);
    this.when(command, () => {
      this.#service.kill();
      this.#isKilled = true;
    });
  }

  /** The service ends as at a restart, unless it was killed, and another one takes its place. */
  async restartAgent(): Promise<void> {
    await this.#service[Symbol.asyncDispose]();
    if (!this.#isKilled) this.say('the agent has ended; QEMU goes on');
    this.say('another agent starts, on the same state folder');
    this.#isKilled = false;
    this.#service = await serveStory(this.#serves, this.#place);
  }

  /** The end of the story: the outcome of the job, or that there is none; QEMU's nodes and jobs; the files. */
  async end(job: string | undefined): Promise<string> {
    this.#entries();
    this.#isOver = true;
    await this.#watcher;
    if (this.#watcher !== undefined) this.#lines.push('', '# The messages to the watch', ...this.#heardByWatcher);
    this.#lines.push('', '# In the end');
    if (job === undefined) this.#lines.push('no job');
    else {
      const { job: it } = await this.#service.agent.getInfo({ jobId: job }, PATIENT);
      const { guestWritesTo, destinationContent, asOf, safeToDelete, evidence, destinationRemoved } = it.outcome;
      this.#lines.push(
        `state                ${it.state}${it.failure === undefined ? '' : `: ${it.failure.reason}: ${it.failure.text}`}`,
        `guest writes to      ${guestWritesTo ?? 'not known'}`,
        `destination content  ${destinationContent ?? 'nothing is said of one'}${asOf === undefined ? '' : ' as of TIME'}${destinationRemoved ? ', removed' : ''}`,
        ...safeToDelete.map(({ path, warning }) => `safe to delete       ${path}: ${warning}`),
        ...evidence.map(
          ({ source, text, revision }) => `evidence             ${source}, revision ${revision}: ${text}`,
        ),
      );
    }
    const files = (await readdir(this.dir)).filter((name) => name.startsWith('copy'));
    this.#lines.push(
      ...(this.qemu.alive ? this.#insideQemu() : ['QEMU                 is gone']),
      `the destination      ${files.join(', ') || 'is not there'}`,
    );
    if (this.qemu.pendingFaults > 0) throw new Error('a fault of the story did not happen');
    return this.text;
  }

  /** The text so far. */
  get text(): string {
    return `${this.#lines.map((line) => fold(this.#plain(line))).join('\n')}\n`;
  }

  #insideQemu(): string[] {
    return [
      `QEMU's nodes         ${this.qemu.nodes.toSorted().join(', ')}; vd0 is on ${this.qemu.rootOf('vd0')}`,
      `QEMU's jobs          ${this.qemu.jobs.join(', ') || 'none'}`,
      `the guest            ${this.qemu.guestRuns ? 'runs' : 'does not run'}`,
    ];
  }

  #plain(text: string): string {
    return text
      .replaceAll(/bj[0-9a-f]{16}/g, 'JOB')
      .replaceAll(this.dir, '')
      .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME');
  }

  /** A call of a gateway to an agent. */
  asked(host: string, rpc: string): void {
    if (this.#isOver) return;
    this.#entries();
    this.#lines.push(`  ⇒ ${host}: ${rpc}`);
  }

  /** A message over QMP. */
  heard(line: Line): void {
    switch (line.line) {
      case 'command':
        if (QUESTION.test(line.execute)) return;
        this.#entries();
        this.#lines.push(`  → ${line.execute}${flat(line.arguments)}`);
        this.#happens(line.execute);
        return;
      case 'return':
        if (!QUESTION.test(line.to)) this.#lines.push(`  ${line.lost ? '✗' : '←'} done: ${line.to}`);
        return;
      case 'error':
        if (!QUESTION.test(line.to)) this.#lines.push(`  ${line.lost ? '✗' : '←'} refused: ${line.to}: ${line.desc}`);
        return;
      case 'event':
        if (this.#joined(line)) return;
        this.#lines.push(`  ${line.lost ? '✗' : '←'} ${line.event}${flat(line.data)}`);
        return;
      case 'disconnected':
        this.#lines.push(`  ✗ ${this.#isKilled ? 'the service has been killed' : 'the connection breaks'}`);
    }
  }

  #happens(command: string): void {
    const happens = this.#whenCommanded.get(command);
    this.#whenCommanded.delete(command);
    happens?.();
  }

  /** The statuses of a job in a row are one line: `created, running`. */
  #joined({ event, data, lost }: Extract<Line, { line: 'event' }>): boolean {
    if (event !== 'JOB_STATUS_CHANGE') return false;
    const row = `  ${lost ? '✗' : '←'} ${event} ${String(data['id'])}: `;
    const last = this.#lines.at(-1) ?? '';
    if (last.startsWith(row)) this.#lines[this.#lines.length - 1] = `${last}, ${String(data['status'])}`;
    else this.#lines.push(`${row}${String(data['status'])}`);
    return true;
  }

  /** Adds the entries that have come to the disk since the last time. */
  #entries(): void {
    const { jobsFolder } = this.#service;
    const [file] = readdirSync(jobsFolder);
    if (file !== undefined && this.#serves === 'AGENT') this.#follow(file.replace('.jsonl', ''));
    const words =
      file === undefined
        ? this.#watched
        : readFileSync(join(jobsFolder, file), 'utf8')
            .split('\n')
            .filter((line) => line !== '')
            .map((line) => entryInWords(JSON.parse(line.slice(9)) as JournalEntry));
    for (const [index, text] of words.entries())
      if (index >= this.#told) this.#lines.push(`journal ${String(index + 1).padStart(2)}  ${text}`);
    this.#told = Math.max(this.#told, words.length);
  }

  #follow(job: string): void {
    const request = { job: { jobId: job }, afterRevision: 0, progressIntervalMs: undefined };
    this.#watch ??= (async () => {
      for await (const event of this.#service.agent.watch(request, this.#stop))
        if (event.job.revision > this.#watched.length) this.#watched.push(event.detail);
    })();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#watch;
    await this.#service[Symbol.asyncDispose]();
    await this.#cleanUp.disposeAsync();
  }
}

/** The request without the disk. */
function inShort(asked: object): string {
  return Object.entries(asked)
    .map(([key, value]) => (value === true ? ` ${key}` : ` ${key}=${JSON.stringify(value)}`))
    .join('');
}

/** ` key=value inner.key=value`, without constant values. */
function flat(data: Readonly<Record<string, unknown>>, prefix = ''): string {
  return Object.entries(data)
    .map(([key, value]) =>
      typeof value === 'object' && value !== null && !(Array.isArray(value) && value.length === 0)
        ? flat(value as Record<string, unknown>, `${prefix}${key}.`)
        : ` ${prefix}${key}=${String(value)}`,
    )
    .join('');
}

function fold(line: string): string {
  if (line.length <= WIDTH) return line;
  const at = line.lastIndexOf(' ', WIDTH);
  return at < 20 ? line : `${line.slice(0, at)}\n${fold(`        ${line.slice(at + 1)}`)}`;
}
