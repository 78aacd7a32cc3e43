/**
 * A random graph, and some moves of it. After each move the claims of the service are checked, byte by byte and file by
 * file.
 *
 *   make images ─► start QEMU ─► write ─► [ move, with writes meanwhile ─► proof ]… ─► end QEMU ─► proof ─► start again
 */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ImageFormat, type Job } from '../../generated/blockjob/v1/job.ts';
import { graphOf } from '../support/checks.ts';
import type { Random } from '../support/random.ts';
import type { Qemu } from '../support/real-qemu/qemu.ts';
import type { Service } from '../support/service/service.ts';
import { after, type Chain, chainOf, type Link, without } from './chain.ts';
import { expectShows, expectSnapshot } from './cold.ts';
import { Contents } from './contents.ts';
import { type GraphPlan, graphPlan } from './graph-plan.ts';
import { makeImages } from './images.ts';
import { type Move, moveOf } from './move.ts';
import { expectClaims, expectTrue } from './proof.ts';
import { Rename } from './renames.ts';
import { startOf } from './request.ts';
import { isDone, type Meddler, Steering, stateOf } from './steering.ts';
import { hide, PLAIN, type View } from './view.ts';
import { Guest, startAgain, startVm, told } from './vm.ts';
import { look, touched } from './world.ts';
import { must } from './wrong.ts';

export interface Place {
  readonly service: Service;
  readonly sockets: string;
  /** All files of the round, and nothing else. */
  readonly folder: string;
  /** The folder for the files of the proof. */
  readonly scratch: string;
  readonly canLoop: boolean;
  /** QEMU is in a mount namespace of its own. */
  readonly isApart: boolean;
  /** Files are renamed while jobs run. */
  readonly isMeddled: boolean;
}

export interface Tally {
  /** The end of each kind of move, or the reason of its refusal. */
  readonly ends: Map<string, number>;
  done: number;
}

export async function round(name: string, random: Random, place: Place, tally: Tally): Promise<void> {
  const plan = graphPlan(random, place.canLoop && !place.isApart);
  const said = [`${name}: ${plan.style}${plan.isExplicit ? ' explicit' : ''} ${plan.images.map(told).join(' <- ')}`];
  try {
    await using one = await Round.start(name, random, place, plan);
    for (let number = 1 + random.below(3); number > 0; number -= 1) {
      const drawn = moveOf(random, one.chain.length, number);
      // A rename needs time.
      const move = place.isMeddled ? { ...drawn, isSlow: true } : drawn;
      said.push(JSON.stringify(move));
      const end = await one.move(move);
      said.push(...one.renames.splice(0), end);
      const sign = `${move.what}: ${end}`;
      if (end === 'COMPLETED') tally.done += 1;
      tally.ends.set(sign, (tally.ends.get(sign) ?? 0) + 1);
    }
    await one.end();
  } catch (error) {
    throw new Error(said.join('\n  '), { cause: error });
  }
}

class Round implements AsyncDisposable {
  readonly #name: string;
  readonly #random: Random;
  readonly #place: Place;
  readonly #qemu: Qemu;
  readonly #guest: Guest;
  readonly #open: AsyncDisposableStack;
  readonly #view: View;
  readonly #late = new Set<string>();
  /** The renames in words, until they are reported. */
  readonly renames: string[] = [];
  chain: Chain;

  private constructor(
    parts: { name: string; random: Random; place: Place; qemu: Qemu; guest: Guest; chain: Chain; view: View },
    open: AsyncDisposableStack,
  ) {
    this.#name = parts.name;
    this.#random = parts.random;
    this.#place = parts.place;
    this.#qemu = parts.qemu;
    this.#guest = parts.guest;
    this.#view = parts.view;
    this.chain = parts.chain;
    this.#open = open;
  }

  static async start(name: string, random: Random, place: Place, plan: GraphPlan): Promise<Round> {
    await using open = new AsyncDisposableStack();
    const folder = join(place.folder, 'images');
    const images = await makeImages(plan.images, folder, open.use(new DisposableStack()));
    const chain = chainOf(images);
    const shows = (images.at(-1)?.shows ?? Contents.empty(0)).copy();
    // Otherwise the later checks would prove nothing.
    await expectShows('as it was made', chain[0], shows, place);
    const view = place.isApart ? await hide(folder, random) : PLAIN;
    const qemu = open.use(await startVm(plan, images, { name, sockets: place.sockets, under: view.under }));
    await place.service.domainUp(name);
    // Discarded blocks of such an image show the image below it again.
    const mayDiscard = !plan.images.some(({ options }) => options.includes('compat=0.10'));
    const guest = new Guest(qemu, random, { shows, mayDiscard });
    await guest.write();
    return new Round({ name, random, place, qemu, guest, chain, view }, open.move());
  }

  /** Returns its end, in one word. */
  async move(move: Move): Promise<string> {
    const { folder, service } = this.#place;
    const copy = move.what === 'copy' ? join(folder, move.folder, move.name) : undefined;
    const start = await startOf({
      domain: this.#name,
      move,
      chain: this.chain,
      copy,
      shows: this.#guest.shows,
      scratch: this.#place.scratch,
      under: this.#view.under,
    });
    const [files, graph] = [await look(folder), await graphOf(this.#qemu.admin)];
    const unchanged = async () => {
      const now = touched(files, await look(folder));
      must(now.length === 0, `a refused start: ${now.join(', ')}`);
      const graphNow = await graphOf(this.#qemu.admin);
      must(JSON.stringify(graph) === JSON.stringify(graphNow), `a refused start: ${graphNow.nodes.join(', ')}`);
      const left = await service.listLeftovers(this.#name);
      must(left.length === 0, `a refused start leaves ${left.map((one) => one.name).join(', ')}`);
    };
    const steering = new Steering(service, this.#guest, this.#random, this.#meddler(move, copy));
    const ended = await steering.run(move, start, unchanged);
    if ('refusal' in ended) {
      if (copy !== undefined) await rm(copy, { force: true });
      return ended.refusal.metadata['kind'] ?? ended.refusal.reason;
    }
    const { job, lost, renamed } = ended;
    const made = copy === undefined ? undefined : madeBy(copy, job);
    const before = this.chain;
    if (renamed?.isThere === true) {
      await expectClaims({ move, job, before, after: after(before, move, made), made }, this.#guest.shows, {
        scratch: this.#place.scratch,
        under: this.#view.under,
        isLive: true,
      });
      await renamed.undo();
    }
    if (!isDone(move, job)) this.#brokenOff(move);
    this.chain = without(lost.snapshotsOf, isDone(move, job) ? after(before, move, made) : before);
    const { shows } = this.#guest;
    await expectTrue({
      move,
      job,
      before,
      late: this.#late,
      after: this.chain,
      made,
      files,
      shows,
      admin: this.#qemu.admin,
      folder,
      scratch: this.#place.scratch,
      view: this.#view,
      wasRenamed: renamed !== undefined,
    });
    await this.#guest.reads(2);
    // It is over the images of this disk, which still change.
    if (copy !== undefined && this.chain[0].path !== copy && existsSync(copy)) await rm(copy);
    await this.#guest.write();
    return stateOf(job);
  }

  #meddler(move: Move, copy: string | undefined): Meddler | undefined {
    if (!this.#place.isMeddled) return undefined;
    const made = copy === undefined ? undefined : { ...madeAt(copy), format: '' };
    const disk = { chain: this.chain, copy, after: after(this.chain, move, made) };
    return async () => {
      const one = await Rename.some(this.#random, { ...disk, view: this.#view, folder: this.#place.folder });
      if (one !== undefined) this.renames.push(one.text);
      return one;
    };
  }

  /** QEMU may still have to flush data that it has written to the base by then. */
  #brokenOff(move: Move): void {
    if (move.what !== 'commit') return;
    for (const file of this.chain[move.base]?.files ?? []) this.#late.add(this.#view.outside(file));
  }

  /** QEMU is gone, in one way or another. The disk is left, and it can be started. */
  async end(): Promise<void> {
    // Images of other formats may need a repair then.
    const isCrashSafe = ['raw', 'qcow2'].includes(this.chain[0].format);
    if (isCrashSafe && this.#random.chance(0.5)) process.kill(this.#qemu.pid, 'SIGKILL');
    else await this.#qemu.admin.execute('quit').catch(() => undefined);
    await this.#qemu.exited;
    const { shows } = this.#guest;
    const viewer = { scratch: this.#place.scratch, under: this.#view.under };
    await expectShows('when QEMU has ended', this.chain[0], shows, viewer);
    for (const link of this.chain) await expectSnapshot(link, viewer);
    await using again = await startAgain(this.chain[0].open, `${this.#name}-again`, this.#view.under);
    const guest = new Guest(again, this.#random, { shows, mayDiscard: false });
    await guest.reads(3);
    await guest.write();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open.disposeAsync();
  }
}

function madeBy(path: string, { destination }: Job): Link {
  const driver = destination?.format === ImageFormat.IMAGE_FORMAT_RAW ? 'raw' : 'qcow2';
  return { ...madeAt(path), format: driver, open: { driver, file: { driver: 'file', filename: path } } };
}

function madeAt(path: string): Omit<Link, 'format'> {
  return { path, files: [path], open: {}, snapshot: undefined };
}
