/**
 * A VM vm1 on the fake QEMU with one disk vd0, and files around it: the whole world of one job, which can be restored
 * to an earlier moment, with its files. An agent comes and goes; each has a state folder of its own.
 */
import {
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { qcow2 } from '../images/qcow2-header.ts';
import { type Bus, testDir } from '../real-qemu/qemu.ts';
import { NO_LOOKS, TestAgent, type TestAgentOptions } from '../service/agent.ts';
import { FakeQemu, type Moment } from './fake-qemu.ts';

/** Nothing here depends on a real disk: thousands of agents come and go, and each syncs its writes. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : undefined;

export const SIZE_BYTES = 1024 * 1024;

/**
 * A file at one moment: if it is removed, exactly that file comes back, with the inode and the birth time that a
 * journal knows.
 */
interface File {
  readonly inode: number;
  readonly sizeBytes: number;
  /** The first bytes of a header: the image that it names below it. */
  readonly head: string;
}

const HEAD_BYTES = 1024;

function headOf(path: string): string {
  const file = openSync(path, 'r');
  const bytes = Buffer.alloc(HEAD_BYTES);
  const read = readSync(file, bytes);
  closeSync(file);
  return bytes.toString('latin1', 0, read);
}

function writeHead(path: string, head: string): void {
  const file = openSync(path, 'r+');
  writeSync(file, Buffer.from(head, 'latin1'), 0, head.length, 0);
  closeSync(file);
}

export interface SceneMoment {
  readonly qemu: Moment;
  /** By name. */
  readonly files: ReadonlyMap<string, File>;
}

export interface SceneAgentOptions extends Pick<TestAgentOptions, 'configOwner' | 'looks'> {
  /** Whether it knows the socket of QEMU; by default, if QEMU lives. */
  readonly isConnected?: boolean;
}

export interface SceneOptions {
  readonly bus?: Bus;
  /** The images of the disk's chain: disk-0.qcow2 and those above it; otherwise two. */
  readonly images?: number;
}

export class Scene implements AsyncDisposable {
  readonly qemu: FakeQemu;
  /** The folder of the images. */
  readonly dir: string;
  /** The active image. */
  readonly source: string;
  readonly #root: string;
  readonly socketPath: string;
  readonly #cleanUp: AsyncDisposableStack;
  #agents = 0;
  /** The state folder of the last agent. */
  agentFolder = '';
  /** Called at each command that comes to QEMU, before it is executed. */
  onCommand: (execute: string) => void = () => undefined;

  private constructor(root: string, qemu: FakeQemu, source: string, cleanUp: AsyncDisposableStack) {
    this.#root = root;
    this.dir = join(root, 'images');
    this.qemu = qemu;
    this.source = source;
    this.socketPath = join(root, 'qmp.sock');
    this.#cleanUp = cleanUp;
  }

  static async begin({ bus = 'virtio-blk', images = 2 }: SceneOptions = {}): Promise<Scene> {
    await using cleanUp = new AsyncDisposableStack();
    const { path: root } = cleanUp.use(await testDir('bj-scene-', MEMORY));
    for (const folder of ['images', 'kept']) mkdirSync(join(root, folder));
    const chain = Array.from({ length: images }, (_, index) => {
      const path = join(root, 'images', `disk-${index}.qcow2`);
      const below = join(root, 'images', `disk-${index - 1}.qcow2`);
      const backing = index === 0 ? {} : { backingFile: below, backingFormat: 'qcow2' };
      writeFileSync(path, qcow2({ size: BigInt(SIZE_BYTES), ...backing }));
      return { format: 'qcow2', path } as const;
    });
    const held: { scene?: Scene } = {};
    const qemu = cleanUp.use(
      await FakeQemu.start({
        socketPath: join(root, 'qmp.sock'),
        name: 'vm1',
        disks: [{ id: 'vd0', bus, chain }],
        sizeBytes: SIZE_BYTES,
        onLine: (line) => {
          if (line.line === 'command') held.scene?.onCommand(line.execute);
        },
      }),
    );
    const scene = new Scene(root, qemu, chain.at(-1)?.path ?? '', cleanUp.move());
    held.scene = scene;
    return scene;
  }

  path(name: string): string {
    return join(this.dir, name);
  }

  /** Gives it a second name, under which it survives its removal. */
  keep(path: string): string {
    const { ino, birthtimeNs } = lstatSync(path, { bigint: true });
    const kept = join(this.#root, 'kept', `${ino}-${birthtimeNs}`);
    if (!existsSync(kept)) linkSync(path, kept);
    return kept;
  }

  /** The present state of the world. */
  get now(): SceneMoment {
    const files = readdirSync(this.dir).map((name): [string, File] => {
      this.keep(this.path(name));
      const { ino, size } = lstatSync(this.path(name));
      return [name, { inode: ino, sizeBytes: size, head: headOf(this.path(name)) }];
    });
    return { qemu: this.qemu.now, files: new Map(files) };
  }

  /** Restores that moment, while no agent runs. */
  restore({ qemu, files }: SceneMoment): void {
    const kept = new Map(
      readdirSync(join(this.#root, 'kept')).map((name) => [Number(name.split('-')[0]), join(this.#root, 'kept', name)]),
    );
    for (const name of readdirSync(this.dir)) {
      if (lstatSync(this.path(name)).ino !== files.get(name)?.inode) unlinkSync(this.path(name));
    }
    for (const [name, { inode, sizeBytes, head }] of files) {
      if (!existsSync(this.path(name))) linkSync(kept.get(inode) ?? '', this.path(name));
      if (lstatSync(this.path(name)).size !== sizeBytes) truncateSync(this.path(name), sizeBytes);
      if (headOf(this.path(name)) !== head) writeHead(this.path(name), head);
    }
    // It opens the existing files.
    this.qemu.restore(qemu);
  }

  /** In words: QEMU's jobs and commands, and the journals of the last agent. */
  get left(): string {
    const folder = join(this.agentFolder, 'jobs');
    const names = existsSync(folder) ? readdirSync(folder) : [];
    const journals = names.map((name) => `${name}:\n${readFileSync(join(folder, name), 'utf8')}`);
    return `${this.qemu.words}\n${journals.join('\n')}`;
  }

  /** An agent with this journal of an earlier one. It does not find QEMU if that has died. */
  async agent(
    journal?: {
      readonly job: string;
      /** Undefined if the journal is lost. */
      readonly text: string | undefined;
      readonly holds?: ReadonlyMap<string, string> | undefined;
      /** Errors that the agent must log. */
      readonly complaints?: RegExp;
    },
    { configOwner = 'NONE', looks = NO_LOOKS, isConnected = this.qemu.alive }: SceneAgentOptions = {},
  ): Promise<TestAgent> {
    this.#agents += 1;
    const dir = join(this.#root, `agent-${this.#agents}`);
    this.agentFolder = dir;
    mkdirSync(join(dir, 'jobs'), { recursive: true });
    if (journal?.text !== undefined) writeFileSync(join(dir, 'jobs', `${journal.job}.jsonl`), journal.text);
    if (journal?.holds !== undefined) mkdirSync(join(dir, 'holds'));
    for (const [name, text] of journal?.holds ?? []) writeFileSync(join(dir, 'holds', name), text);
    await this.qemu.opened;
    return await TestAgent.start({
      dir,
      qmp: isConnected ? { vm1: this.socketPath } : {},
      allow: [this.dir],
      configOwner,
      looks,
      ...(journal?.complaints && { complaints: journal.complaints }),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cleanUp.disposeAsync();
  }
}
