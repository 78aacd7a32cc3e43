/**
 * The page in a real Chromium, over services that only seem to have so many jobs: the things that people see, hear and
 * press.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { failure } from '../../src/core/errors.ts';
import { servePage } from '../../src/page/page.ts';
import { eventually, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { Chromium, type Look, type Scheme, type Shown } from './browser.ts';
import { ManyJobs, type Shape } from './many-jobs.ts';

const log = pino({ level: 'silent' });
const LOOPBACK = { host: '127.0.0.1', port: 0 };
const INFO = { version: '1.2.3', build: 'dev', mode: 'SERVE', host: 'host1', startTime: new Date() } as const;
const HUNDRED = { running: 60, ended: 40 };
/** The first that has ended in FAILED. */
const FAILED = '#/jobs/bj0000000000000060';
const RUNNING = '#/jobs/bj0000000000000000';
/** It does not end, and its end policy helps. */
const HELPED = '#/jobs/bj0000000000000008';

interface Seen extends AsyncDisposable {
  readonly shown: Shown;
  readonly many: ManyJobs;
  readonly url: string;
}

describe.skipIf(needs('browser'))('the page', () => {
  let chromium: Chromium;

  beforeAll(async () => {
    chromium = await Chromium.start();
  });

  afterAll(async () => {
    await chromium[Symbol.asyncDispose]();
  });

  /** In each test, the browser has no complaints, and no other server is asked. */
  async function see(shape: Shape, hash = '', look: Look = {}): Promise<Seen> {
    const many = new ManyJobs(shape);
    const page = await servePage(many.jobs, { at: LOOPBACK, info: INFO, log });
    const shown = await chromium.open(page.url + hash, look);
    return {
      shown,
      many,
      url: page.url,
      [Symbol.asyncDispose]: async () => {
        await shown[Symbol.asyncDispose]();
        await page.drain();
        expect(shown.complaints).toEqual([]);
        expect(shown.asked.filter((url) => !url.startsWith(page.url))).toEqual([]);
      },
    };
  }

  describe.each(['light', 'dark'] as const)('with %s colours', (scheme: Scheme) => {
    test.each([
      ['no job', { running: 0, ended: 0 }, '', 'No data is being moved'],
      ['one copy', { running: 1, ended: 0 }, RUNNING, 'Remaining'],
      ['a hundred jobs', HUNDRED, '', 'web85'],
      ['a failed one', HUNDRED, FAILED, 'NO_SPACE'],
      ['one that is helped', HUNDRED, HELPED, 'End policy'],
      ['all virtual machines', HUNDRED, '#/domains', '100 found'],
    ] as const)('and %s hinders nobody', async (_what, shape, hash, text) => {
      await using seen = await see(shape, hash, { scheme });
      await seen.shown.shows(text);
      const found = await seen.shown.accessibility();
      expect(found.map(({ id, impact, nodes }) => [id, impact, nodes[0]?.html])).toEqual([]);
    });
  });

  test('has one stream for a hundred jobs, and makes no call each second', async () => {
    await using seen = await see(HUNDRED);
    const { shown, many } = seen;
    await shown.shows(/60 running · .*25 or more ended/);
    await shown.shows('started', 'footer');
    await eventually('all that it asks for at its begin', () => many.calls.listLeftovers > 0 || undefined);
    expect(await shown.texts('table.running tbody tr')).toHaveLength(60);
    const before = { ...many.calls };
    const { length: asked } = shown.asked;
    const numbers = new Set<string>();
    const until = many.rounds + 10;
    await eventually('other numbers, ten times', async () => {
      numbers.add(String(await shown.texts('table.running td.number')));
      return many.rounds >= until && numbers.size >= 10 ? true : undefined;
    });
    // The page asks for leftovers every 15 seconds, and for nothing else.
    const { listLeftovers } = many.calls;
    expect(many.calls).toEqual({ ...before, listLeftovers });
    expect(listLeftovers - before.listLeftovers).toBeLessThan(5);
    expect(shown.asked.slice(asked).filter((url) => !url.endsWith('/ListLeftovers'))).toEqual([]);
    expect(many.calls).toMatchObject({ watchJobs: 1, watch: 0, getInfo: 0, listJobs: 1 });

    await shown.page.goto(`${seen.url}${RUNNING}`);
    await shown.shows('Copy of web1 virtio0');
    await shown.shows('entry 7', 'table.journal');
    await shown.page.goto(`${seen.url}#/jobs/bj0000000000000001`);
    await shown.shows('Copy of web2 virtio0');
    await shown.shows('entry 7', 'table.journal');
    expect(many.calls).toMatchObject({ watchJobs: 1, watch: 2, listJobs: 1 });
    expect(many.streams).toBe(1);
  });

  test('reads the list of ended jobs again when another job has ended', async () => {
    await using seen = await see({ running: 2, ended: 1 });
    const { shown, many } = seen;
    await shown.shows('2 running · 1 ended');
    expect(many.calls.listJobs).toBe(1);
    many.end(0);
    await shown.shows('1 running · 2 ended');
    expect(await shown.texts('table.ended tbody th')).toHaveLength(2);
    expect(many.calls.listJobs).toBe(2);
  });

  test('appends the entries of the stream to the journal of the open job', async () => {
    await using seen = await see({ running: 2, ended: 1 }, RUNNING);
    const { shown, many } = seen;
    await shown.shows('entry 7', 'table.journal');
    many.end(0);
    await shown.shows('it has ended', 'table.journal');
    await shown.shows('Completed', '.title');
    const journal = await shown.texts('table.journal tbody tr td:first-child');
    expect(journal.map(Number)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(many.calls.watch).toBe(1);
  });

  test('marks old numbers if QEMU is silent, and if a host is', async () => {
    await using seen = await see({ running: 2, ended: 1 });
    const { shown, many } = seen;
    await shown.shows(/GiB of .*GiB/, 'table.running');
    many.hasNumbers = false;
    await shown.shows(/(was [\d.]+ %, (just now|\d+ s ago).*){2}/, 'table.running');
    expect(await shown.texts('table.running td.number')).toEqual(Array.from({ length: 6 }, () => '–'));
    await shown.page.goto(`${seen.url}${RUNNING}`);
    await shown.shows(/was [\d.]+ %, /, '.far');
    expect(await shown.text('.figures')).toContain('Time left –');
    expect(await shown.page.title()).toMatch(/^web1 virtio0 was at \d+ %/);
    many.hasNumbers = true;
    await shown.shows(/^[\d.]+ %$/, '.far strong');
    many.tells.push({
      is: 'UNREACHABLE',
      host: 'host1',
      why: failure('HOST_UNREACHABLE', { host: 'host1', why: 'cut' }),
    });
    await shown.shows('Some hosts do not answer', '.notice');
    await shown.shows(/was [\d.]+ %, /, '.far');
    many.tells.push({ is: 'SYNCED', host: 'host1', starting: [], position: { epoch: 'epoch', at: 7 } });
    await shown.shows(/^[\d.]+ %$/, '.far strong');
    expect(await shown.text()).not.toContain('Some hosts do not answer');
  });

  test('leaves a stream that is silent for longer than a heartbeat, and resumes it', async () => {
    await using seen = await see({ running: 1, ended: 0 });
    const { shown, many } = seen;
    await shown.shows('1 running');
    many.hasNumbers = false;
    await eventually('a second stream', () => (many.resumedAfter.length === 2 ? true : undefined), 60_000);
    expect(many.resumedAfter).toEqual([undefined, 7]);
    many.hasNumbers = true;
    await shown.shows(/GiB of .*GiB/, 'table.running');
    await shown.shows('Live', '#connection');
    expect(many.streams).toBe(1);
  });

  test('shows jobs that need attention first, and only the selected ones', async () => {
    await using seen = await see(HUNDRED);
    const { shown } = seen;
    await shown.shows('60 running');
    const [first = '', ...others] = await shown.texts('table.running tbody tr');
    expect(first).toContain('Paused: no space');
    expect(others.at(-1)).toMatch(/^web60 /);
    await shown.page.type('input[type=search]', 'WEB42');
    await eventually('one row', async () =>
      (await shown.texts('table.running tbody tr')).length === 1 ? true : undefined,
    );
    expect(await shown.text()).toContain('No ended job matches.');
    await shown.page.type('input[type=search]', 'x');
    await shown.shows('No running job matches.');
  });

  test('shows the steps of an end policy, and the limit on the guest', async () => {
    await using seen = await see(HUNDRED, HELPED);
    const { shown } = seen;
    await shown.shows('Its speed limit was lifted to 300 MiB/s, because the guest writes', '.steps');
    await shown.shows('throttled by this job to 15.0 MiB/s since', '.figures');
    await shown.shows('The job will not end at this rate', '.notice');
    await shown.page.goto(seen.url);
    await shown.shows('throttled to 15.0 MiB/s', 'table.running');
    await shown.page.goto(`${seen.url}${RUNNING}`);
    await shown.shows('Copy of web1 virtio0');
    expect(await shown.text()).not.toContain('End policy');
  });

  test('shows older ones on request', async () => {
    await using seen = await see(HUNDRED);
    const { shown } = seen;
    await shown.shows('25 or more ended');
    await shown.page.click('button');
    await shown.shows('40 ended');
    expect(await shown.texts('table.ended tbody tr')).toHaveLength(40);
    expect(await shown.page.$$('button')).toHaveLength(0);
  });

  test('updates without moving the element in use', async () => {
    await using seen = await see(HUNDRED);
    const { shown } = seen;
    await shown.shows('60 running');
    await shown.page.focus('table.running tbody tr:nth-child(9) a');
    const speeds = async () => await shown.texts('table.running td.number');
    const before = await speeds();
    await eventually('other numbers', async () => (String(await speeds()) === String(before) ? undefined : true));
    const at = await shown.page.evaluate(() => document.activeElement?.closest('tr')?.rowIndex);
    expect(at).toBe(9);
  });

  test('can be used with the keyboard alone', async () => {
    await using seen = await see({ running: 2, ended: 1 });
    const { shown } = seen;
    const { keyboard } = shown.page;
    const focused = async () =>
      await shown.page.evaluate(() => {
        const at = document.activeElement;
        return at instanceof HTMLElement ? `${at.tagName} ${at.innerText.replaceAll(/\s+/g, ' ').slice(0, 40)}` : '';
      });
    const tab = async (times: number) => {
      for (let count = 0; count < times; count += 1) await keyboard.press('Tab');
    };
    await shown.shows('2 running');
    await tab(1);
    expect(await focused()).toBe('A Skip to the content');
    await keyboard.press('Enter');
    expect(await focused()).toMatch(/^MAIN/);
    await tab(2);
    // The table scrolls if it is too wide, and so it can get the focus; then its first job.
    expect(await focused()).toBe('A web1 virtio0');
    const outline = await shown.page.$eval(':focus', (one) => getComputedStyle(one).outlineStyle);
    expect(outline).toBe('solid');
    await keyboard.press('Enter');
    await shown.shows('Copy of web1 virtio0', 'h1');
    expect(await focused()).toBe('H1 Copy of web1 virtio0');
    expect(await shown.page.title()).toMatch(/^web1 virtio0 \d+ % – blockjobd$/);
    await keyboard.down('Shift');
    await tab(1);
    await keyboard.up('Shift');
    expect(await focused()).toBe('A Jobs');
    await keyboard.press('Enter');
    await shown.shows('2 running');
    await keyboard.down('Shift');
    await tab(2);
    await keyboard.up('Shift');
    expect(await focused()).toBe('A Virtual machines');
    await keyboard.press('Enter');
    await shown.shows('3 found');
    expect(await focused()).toBe('H1 Virtual machines');
  });

  test('shows the service that answers, and its address', async () => {
    await using seen = await see(HUNDRED);
    await seen.shown.shows('started', 'footer');
    expect(await seen.shown.text('header')).toContain('blockjobd host1 Jobs');
    expect(await seen.shown.text('footer')).toMatch(/blockjobd 1\.2\.3 \(dev\), serve, started (just now|\d+ .*ago)$/);
  });

  test('has landmarks, one main heading, and tables with names', async () => {
    await using seen = await see(HUNDRED);
    await seen.shown.shows('60 running');
    for (const landmark of ['header', 'nav', 'main', 'footer', 'h1']) {
      expect(await seen.shown.page.$$(landmark)).toHaveLength(1);
    }
    expect(await seen.shown.page.$$eval('caption', (all) => all.map((one) => one.textContent))).toEqual([
      'Running jobs',
      'Ended jobs',
    ]);
  });

  test('fits a telephone', async () => {
    await using seen = await see(HUNDRED, RUNNING, { width: 390, height: 800 });
    await seen.shown.shows('Remaining', '.plots');
    expect(await seen.shown.page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  });

  test.each([
    '<img src=x onerror=document.title=1>',
    '"><script>document.title=1</script>',
    "'); DROP TABLE",
    '../..',
    '%2F%',
  ])('shows a name as it is, and as nothing else: %s', async (name) => {
    await using seen = await see({ running: 1, ended: 1, domainName: () => name });
    const { shown } = seen;
    await shown.shows(name, 'table.running');
    await shown.page.click('table.running a');
    await shown.shows(name, 'h1');
    await shown.shows(`/srv/vm/${name}/disk.qcow2`, 'code');
    expect(await shown.page.$$('main img, main script')).toHaveLength(0);
    expect(await shown.page.title()).toContain('blockjobd');
  });

  test('says what does not exist', async () => {
    await using seen = await see(HUNDRED, '#/jobs/bj-of-nobody');
    // The browser logs each answer that is an error.
    await seen.shown.shows('No such job');
    await seen.shown.shows('no job has the id bj-of-nobody');
    expect(seen.shown.complaints.splice(0).join()).toContain('404');
  });

  test('cannot be read by a page of another origin, nor by a name that only leads here', async () => {
    await using seen = await see(HUNDRED);
    const other = createServer((_request, response) => {
      response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>another</title>');
    });
    await once(other.listen(0, '127.0.0.1'), 'listening');
    using _ = {
      [Symbol.dispose]: () => {
        other.close();
        other.closeAllConnections();
      },
    };
    const address = present(other.address() ?? undefined);
    const port = typeof address === 'object' ? address.port : 0;
    await using stranger = await chromium.open(`http://127.0.0.1:${port}/`);
    const answers = await stranger.page.evaluate(async (url) => {
      const call = {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'Connect-Protocol-Version': '1' },
        body: '{}',
      };
      const path = `${url}blockjob.v1.BlockJobService/ListJobs`;
      const tries = [fetch(path, call), fetch(path, { method: 'POST', body: '{}' }), fetch(`${url}page.js`)];
      return (await Promise.allSettled(tries)).map(({ status }) => status);
    }, seen.url);
    expect(answers).toEqual(['rejected', 'rejected', 'rejected']);
    const rebound = seen.url.replace('127.0.0.1', 'rebound.example');
    await using lured = await chromium.open(rebound);
    expect(await lured.text('body')).toContain('use a name of this machine for this page');
  });

  test('that nobody looks at sends nothing, and then continues where it was', async () => {
    await using seen = await see(HUNDRED, RUNNING);
    const { shown, many } = seen;
    await shown.shows('accepted', 'table.journal');
    expect(many.streams).toBe(1);
    await using front = await chromium.open('about:blank');
    await front.page.bringToFront();
    await eventually('no stream', () => (many.streams === 0 ? true : undefined));
    const { length } = shown.asked;
    await shown.page.bringToFront();
    await eventually('a stream again', () => (many.streams === 1 ? true : undefined));
    await shown.shows(/^[\d.]+ %$/, '.far strong');
    expect(shown.asked.length).toBeGreaterThan(length);
    expect(many.resumedAfter).toEqual([undefined, 7]);
    expect(many.calls.watch).toBe(1);
  });
});
