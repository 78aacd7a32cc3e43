/**
 * The owner of a VM's configuration, which keeps it in a database (examples/node/fenced-move.js), under kills of the
 * owner and of the service, and with strangers who ask for the pivot without a record, or with an old one. No pivot
 * without a fitting record, none twice, none lost.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { expect, test } from 'vitest';
import { Running } from '../examples/running.ts';
import { journalEntries, present } from '../support/checks.ts';
import { ConfigurationFile } from '../support/configuration.ts';
import { needs } from '../support/means.ts';
import { Random } from '../support/random.ts';
import { makeChain, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { AS_COMMONJS } from '../support/service/bundle.ts';
import { byId, refusalOf } from '../support/service/caller.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';

/** 200 take about twenty minutes. */
const ROUNDS = Number(process.env['GATE_ROUNDS'] ?? 4);
const SEED = Number(process.env['CHAOS_SEED'] ?? Date.now() % 1_000_000);
const SIZE_BYTES = 2 << 20;
/** A copy takes up to two seconds, and a service about one to start: the kills come at all instants of a move. */
const SPEEDS = ['0', String(4 << 20), String(1 << 20)] as const;
const LONGEST_DELAY_MS = 3000;

async function ownerIn(dir: string): Promise<string> {
  const outfile = join(dir, 'owner.mjs');
  await build({
    entryPoints: [join(REPOSITORY, 'examples/node/fenced-move.js')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    banner: { js: AS_COMMONJS },
    alias: { 'blockjobd-client': join(REPOSITORY, 'src/client/index.ts') },
    nodePaths: [join(REPOSITORY, 'node_modules')],
  });
  return outfile;
}

test.skipIf(needs('qemu'))(
  'a gate under kills of the service and of the owner: no pivot without a fitting record, none twice, none lost',
  { timeout: 120_000 + ROUNDS * 60_000 },
  async () => {
    console.log(`gates with seed ${SEED}; CHAOS_SEED=${SEED} makes the same decisions`);
    const random = new Random(SEED);
    await using opened = new AsyncDisposableStack();
    const { path: dir } = opened.use(await testDir());
    const script = await ownerIn(dir);
    const chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: SIZE_BYTES });
    const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
    const qemu = opened.use(await startQemu({ style: 'blockdev', name: 'vm1', disks }));
    const image = async () => String((await qemu.admin.block('vd0')).inserted?.file);
    const file = join(dir, 'vms.sqlite');
    const configuration = opened.use(new ConfigurationFile(file, await image()));
    const serve = async () => await Service.start({ dir, qmp: { vm1: qemu.qmpPath }, allow: [dir] });
    let service = await serve();
    opened.defer(async () => await service.kill());
    const tally = { kills: 0, refusals: 0, moved: 0, ended: 0 };
    let oldToken = 'none';

    for (let round = 1; round <= ROUNDS; round += 1) {
      const [source, destination] = [await image(), join(dir, `round-${round}.qcow2`)];
      const address = `unix:${dir}/api.sock`;
      const args = [address, file, 'vm1', 'vd0', destination, random.of(SPEEDS)];
      const start = () => new Running({ program: process.execPath, args: [script] }, args);
      const stop = new AbortController();
      let owner = start();
      using _last = { [Symbol.dispose]: () => owner[Symbol.dispose]() };
      let job = '';
      let isCancelled = false;
      const cancels = random.chance(0.2);

      const note = () => {
        job ||= /^job (\S+)/.exec(owner.lines.find((line) => line.startsWith('job ')) ?? '')?.[1] ?? '';
      };

      /** Strangers, with a look at the world after each word of theirs. */
      const strangers = (async () => {
        for (let word = 0; !stop.signal.aborted; word += 1) {
          note();
          const ask = { job: byId(job), pivot: true, returnImmediately: true };
          const record = word % 2 === 0 ? undefined : { token: oldToken };
          if (job !== '') {
            await service
              .abort({ ...ask, ...(record && { record }) })
              // A pivot that is recorded may be asked for by everybody, but not with an old record.
              .then(
                (then) => expect([record, then.pivotGate?.recordTime]).toEqual([undefined, expect.any(Date)]),
                (error: unknown) => {
                  const { reason } = refusalOf(error);
                  if (reason.startsWith('CONFIG_')) tally.refusals += 1;
                },
              )
              .catch((error: unknown) => {
                if (!/UNAVAILABLE|CANCELLED|closed/.test(String(error))) throw error;
              });
          }
          // The guest first: what the database has named before it stays named.
          const [guest, recorded] = [await image(), configuration.path];
          if (guest === destination) expect(recorded, 'a pivot without a record').toBe(destination);
          await sleep(random.below(200));
        }
      })();
      strangers.catch(() => stop.abort());

      for (let kill = random.below(4); kill > 0; kill -= 1) {
        await sleep(random.below(LONGEST_DELAY_MS));
        tally.kills += 1;
        if (random.chance(0.5)) {
          owner[Symbol.dispose]();
          await owner.ended;
          note();
          owner = start();
        } else {
          await service.kill();
          await sleep(random.below(500));
          service = await serve();
        }
      }
      if (cancels && job !== '') {
        await service.abort({ job: byId(job) }).then(
          () => (isCancelled = true),
          () => undefined,
        );
      }
      // An owner that is killed after its end begins another move, which fails: the destination is there.
      const code = await owner.ended;
      const said = `round ${round}: ${owner.lines.join('; ')}`;
      note();
      stop.abort();
      await strangers;
      const now = await image();
      expect([configuration.path, configuration.moves], said).toEqual([now, 0]);
      if (code === 0) expect(now, said).toBe(destination);
      else if (!isCancelled) expect(owner.lines.join('\n'), said).toContain('DESTINATION_EXISTS');
      if (now === destination) tally.moved += 1;
      else expect([now, isCancelled], said).toEqual([source, true]);

      tally.ended += 1;
      const { revision, pivotGate, outcome } = await service.getInfo(present(job));
      const entries = await journalEntries(join(dir, 'state'), job, revision);
      const of = (kind: string) => entries.filter(({ entry }) => entry === kind);
      expect(of('pivot-requested').length, said).toBe(now === destination ? 1 : of('pivot-requested').length);
      expect(of('pivot-requested').length, said).toBeLessThanOrEqual(1);
      expect(of('gate-opened').length, said).toBeLessThanOrEqual(1);
      for (const entry of of('pivot-requested')) {
        const tokens = [...of('config-recorded'), entry].map((one) => (one as { token?: string }).token);
        expect(tokens, said).toContain(pivotGate?.token);
      }
      expect(outcome?.setConfigBackTo === '' || outcome?.setConfigBackTo === source, said).toBe(true);
      oldToken = pivotGate?.token ?? oldToken;
      await rm(now === destination ? source : destination, { force: true });
    }
    console.log(tally);
    expect(tally.moved).toBeGreaterThan(0);
    expect(tally.refusals).toBeGreaterThan(0);
  },
);
