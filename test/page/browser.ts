/** A real Chromium, and pages that keep the browser's complaints. */
import axe, { type Result } from 'axe-core';
import { type Browser, launch, type Page } from 'puppeteer-core';
import { within } from '../support/real-qemu/qemu.ts';

export const CHROMIUM = '/usr/bin/chromium';

export type Scheme = 'light' | 'dark';

/** The appearance of a page. */
export interface Look {
  readonly scheme?: Scheme;
  readonly width?: number;
  readonly height?: number;
}

export class Chromium implements AsyncDisposable {
  readonly #browser: Browser;

  private constructor(browser: Browser) {
    this.#browser = browser;
  }

  static async start(): Promise<Chromium> {
    const browser = await launch({
      executablePath: CHROMIUM,
      // As root, as in CI, Chromium refuses its sandbox; it shows only our own page here.
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--force-color-profile=srgb',
        '--host-resolver-rules=MAP rebound.example 127.0.0.1',
      ],
    });
    return new Chromium(browser);
  }

  async open(url: string, { scheme = 'light', width = 1280, height = 900 }: Look = {}): Promise<Shown> {
    const page = await this.#browser.newPage();
    await page.setViewport({ width, height });
    await page.emulateMediaFeatures([
      { name: 'prefers-color-scheme', value: scheme },
      { name: 'prefers-reduced-motion', value: 'reduce' },
    ]);
    const shown = new Shown(page);
    await page.goto(url);
    return shown;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
  }
}

export class Shown implements AsyncDisposable {
  readonly page: Page;
  /** Errors and violations of the console, without those of a server that is gone. */
  readonly complaints: string[] = [];
  /** Requests to anywhere. */
  readonly asked: string[] = [];

  constructor(page: Page) {
    this.page = page;
    page.on('console', (message) => {
      const text = message.text();
      if (['error', 'warn'].includes(message.type()) && !text.includes('net::ERR_')) this.complaints.push(text);
    });
    page.on('pageerror', (error) => this.complaints.push(String(error)));
    page.on('request', (request) => this.asked.push(request.url()));
  }

  /** The text that a person reads in `selector`, with single spaces. */
  async text(selector = 'main'): Promise<string> {
    return await this.page.$eval(selector, (found) => (found as HTMLElement).innerText.replaceAll(/\s+/g, ' '));
  }

  /** The texts of all that a selector finds. */
  async texts(selector: string): Promise<string[]> {
    return await this.page.$$eval(selector, (found) =>
      found.map((one) => (one as HTMLElement).innerText.replaceAll(/\s+/g, ' ')),
    );
  }

  /** Resolves when a person can read this there; looks at each frame. */
  async shows(text: string | RegExp, selector = 'main', ms = 60_000): Promise<void> {
    const [source, flags] = typeof text === 'string' ? [RegExp.escape(text), ''] : [text.source, text.flags];
    try {
      await this.page.waitForFunction(isThere, { timeout: ms }, selector, source, flags);
    } catch (error) {
      throw new Error(`${selector} does not show ${text}, but: ${(await this.text()).slice(0, 2000)}`, {
        cause: error,
      });
    }
  }

  /** The problems for people that axe finds. */
  async accessibility(): Promise<Result[]> {
    // Not as a script of the page, which its own policy would refuse.
    const session = await this.page.createCDPSession();
    await session.send('Runtime.evaluate', { expression: axe.source });
    const { result, exceptionDetails } = await within(
      60_000,
      'axe',
      session.send('Runtime.evaluate', {
        expression:
          'axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => JSON.stringify(violations))',
        awaitPromise: true,
      }),
    );
    if (exceptionDetails !== undefined) throw new Error(`axe: ${exceptionDetails.text}`);
    await session.detach();
    return JSON.parse(String(result.value)) as Result[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.page.close();
  }
}

/** Runs in the page. */
function isThere(where: string, source: string, flags: string): boolean {
  return [...document.querySelectorAll<HTMLElement>(where)].some((one) =>
    new RegExp(source, flags).test(one.innerText.replaceAll(/\s+/g, ' ')),
  );
}
