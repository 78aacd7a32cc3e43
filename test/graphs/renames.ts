/** Renames a file or a folder of the disk while a job runs, and may put another object at its name. */
import { copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Random } from '../support/random.ts';
import type { Chain, Link } from './chain.ts';
import type { View } from './view.ts';
import { look, touched } from './world.ts';
import { must } from './wrong.ts';

export interface Meddled {
  readonly chain: Chain;
  readonly copy: string | undefined;
  /** The chain by which the disk is opened after the job. */
  readonly after: Chain;
  readonly view: View;
  /** The folder of all files; it stays. */
  readonly folder: string;
}

type Instead = 'nothing' | 'the same bytes' | 'others';

export class Rename {
  readonly text: string;
  /** The disk, or the copy, cannot be opened by its names now. */
  readonly matters: boolean;
  readonly #at: string;
  readonly #aside: string;
  readonly #instead: Instead;
  readonly #folder: string;
  #isThere = true;
  #before: Awaited<ReturnType<typeof look>> = new Map();

  private constructor(at: string, instead: Instead, matters: boolean, folder: string) {
    this.#at = at;
    this.#aside = `${at}.aside`;
    this.#instead = instead;
    this.#folder = folder;
    this.matters = matters;
    this.text = `renamed${matters ? ', which matters' : ''}: ${at}, and there is ${instead}`;
  }

  /** Undefined: there is nothing to be renamed. */
  static async some(random: Random, { chain, copy, after, view, folder }: Meddled): Promise<Rename | undefined> {
    const files = [...chain.flatMap((link) => link.files), ...(copy === undefined ? [] : [copy, copy])];
    const [first, ...more] = files.map(view.outside);
    if (first === undefined) return undefined;
    const file = random.of([first, ...more]);
    const isFolder = random.chance(0.25) && mayMove(dirname(file), view, folder);
    const at = isFolder ? dirname(file) : file;
    const instead = random.of<Instead>(['nothing', 'the same bytes', 'others']);
    const needed = after.flatMap(namesOf).map(view.outside);
    const matters = needed.some((path) => path === at || path.startsWith(`${at}/`));
    const one = new Rename(at, isFolder && instead === 'the same bytes' ? 'others' : instead, matters, folder);
    await rename(at, one.#aside);
    if (instead !== 'nothing') await one.#put(isFolder);
    return one;
  }

  get isThere(): boolean {
    return this.#isThere;
  }

  async #put(isFolder: boolean): Promise<void> {
    if (isFolder) await mkdir(this.#at);
    else if (this.#instead === 'the same bytes') await copyFile(this.#aside, this.#at);
    else await writeFile(this.#at, Buffer.alloc(8192, 0x77));
    this.#before = new Map([...(await look(this.#folder))].filter(([path]) => path === this.#at));
  }

  /** Everything is as before; the file that was put at the name is unchanged. */
  async undo(): Promise<void> {
    if (!this.#isThere) return;
    this.#isThere = false;
    const now = new Map([...(await look(this.#folder))].filter(([path]) => path === this.#at));
    must(touched(this.#before, now).length === 0, `not to be touched: the file at ${this.#at}`);
    await rm(this.#at, { recursive: true, force: true });
    await rename(this.#aside, this.#at);
  }
}

/** The names by which it can be found. */
function namesOf({ path, files }: Link): readonly string[] {
  return path.startsWith('/dev/') ? [path] : files;
}

/** Below the folder in which a mount namespace begins. */
function mayMove(path: string, view: View, folder: string): boolean {
  const root = view.outside(`${folder}/images`);
  return path !== folder && (path.startsWith(`${root}/`) || view.under.length === 0);
}
