/** Starts the page: the view in the address, and its contents at each news. */
import { ServerMode } from '../generated/es/blockjob/v1/server_service_pb.js';
import { type Child, h, patch } from './dom.ts';
import { Live, type Opened, type View } from './live.ts';
import { heading, nameOf, when } from './parts.ts';
import { Plots } from './plots.ts';
import { domainView } from './views/domain.ts';
import { domainsView } from './views/domains.ts';
import { jobView } from './views/job.ts';
import { jobsView } from './views/jobs.ts';
import { leftoversView } from './views/leftovers.ts';
import { clock, isEnded } from './words.ts';

/** The least time between two renderings. Events come one by one, and people do not read faster. */
const APART_MS = 500;

const live = new Live(news);
const plots = new Plots(live.history);
let filter = '';

const [main, nav, connection, skip, host, server] = ['main', 'nav', 'connection', 'skip', 'host', 'server'].map(
  byId,
) as [HTMLElement, HTMLElement, HTMLElement, HTMLElement, HTMLElement, HTMLElement];

interface Viewed {
  readonly href: string;
  readonly text: string;
  /** The number of things that it shows. */
  readonly count: () => number;
  readonly title: () => string;
  readonly shows: (name: string | undefined) => Child[];
}

/** In the order of the links at the top. */
const VIEWS = {
  jobs: {
    href: '#/',
    text: 'Jobs',
    count: () => live.jobs.running.length,
    title: () => `${live.jobs.running.length} running`,
    shows: () => (live.job === undefined ? jobsView(live, filter) : jobView(live.job, live)),
  },
  domains: {
    href: '#/domains',
    text: 'Virtual machines',
    count: () => 0,
    title: () => 'Virtual machines',
    shows: (name) => (name === undefined ? domainsView(live) : domainView(name, live)),
  },
  leftovers: {
    href: '#/leftovers',
    text: 'Leftovers',
    count: () => live.leftovers.length,
    title: () => 'Leftovers',
    shows: () => leftoversView(live),
  },
} as const satisfies Readonly<Record<View, Viewed>>;

function isView(text: string): text is View {
  return Object.hasOwn(VIEWS, text);
}

/** `#/jobs/ID`, `#/domains/NAME` and so on; any other text means all jobs. */
function route(): Opened {
  const [, view = '', name] = location.hash.split('/');
  return { view: isView(view) ? view : 'jobs', name: name === undefined || name === '' ? undefined : decoded(name) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

let renderedMs = -Infinity;
let timer: ReturnType<typeof setTimeout> | undefined;

function news(): void {
  timer ??= setTimeout(render, Math.max(0, renderedMs + APART_MS - performance.now()));
}

function render(): void {
  clearTimeout(timer);
  timer = undefined;
  renderedMs = performance.now();
  const { view, name } = route();
  patch(nav, navigation(view));
  patch(connection, connectionNow());
  patch(host, h('p', {}, live.server?.host));
  patch(server, serverNow());
  document.body.classList.toggle('cut-off', !live.jobs.isComplete);
  const content = live.isKnown ? VIEWS[view].shows(name) : waiting();
  const next = document.createDocumentFragment();
  next.append(...[outage(), ...content].filter((child) => child !== undefined && child !== false));
  patch(main, next);
  document.title = titleOf(view, name);
  plots.draw();
}

function waiting(): Child[] {
  return [heading('blockjobd'), h('p', { class: 'none' }, 'Asking the service…')];
}

function navigation(view: View): HTMLElement {
  const items = Object.entries<Viewed>(VIEWS).map(([to, { href, text, count }]) =>
    h(
      'li',
      {},
      h(
        'a',
        { href, 'aria-current': to === view && 'page' },
        text,
        count() > 0 && h('span', { class: 'count' }, String(count())),
      ),
    ),
  );
  return h('nav', {}, h('ul', {}, ...items));
}

/** Read out by screen readers when it changes, which is only when the service goes or comes. */
function connectionNow(): HTMLElement {
  const text = live.cutOff !== undefined ? 'Disconnected' : live.jobs.isComplete ? 'Live' : 'Connecting';
  return h('p', {}, h('span', { class: text === 'Live' ? 'dot' : 'dot hollow' }), text);
}

/** The program that answers: another one may have been started since. */
function serverNow(): HTMLElement {
  if (live.server === undefined) return h('p');
  const { version, build, mode, startTime } = live.server;
  const name = ServerMode[mode]?.toLowerCase() ?? '';
  return h('p', {}, `blockjobd ${version} (${build}), ${name}, started `, when(startTime));
}

function outage(): Child {
  if (live.cutOff !== undefined) {
    const { since, why } = live.cutOff;
    return h(
      'div',
      { class: 'notice warn', 'data-key': 'outage' },
      h('h2', {}, `Disconnected from the service since ${clock(since)}`),
      h(
        'p',
        {},
        `The page shows the state of that time: ${why}. Jobs continue in QEMU, and this page continues when the service is back.`,
      ),
    );
  }
  const { unreachableHosts } = live.jobs;
  const { outdated } = live.asks;
  if (unreachableHosts.size === 0 && outdated === undefined) return undefined;
  return h(
    'div',
    { class: 'notice warn', 'data-key': 'outage' },
    unreachableHosts.size > 0 && h('h2', {}, 'Some hosts do not answer'),
    ...[...unreachableHosts].map(([name, why]) => h('p', {}, `The jobs of ${name} may have gone on since: ${why}.`)),
    outdated && h('h2', {}, `Ended jobs, VMs and leftovers are as of ${clock(outdated.since)}`),
    outdated && h('p', {}, `The service was asked for them in vain: ${outdated.why}.`),
  );
}

function titleOf(view: View, name: string | undefined): string {
  const job = live.job?.job;
  if (job !== undefined) {
    const isOld = !isEnded(job) && !live.jobs.isCurrent(job);
    return `${nameOf(job)} ${isOld ? 'was at ' : ''}${Math.floor(job.progress?.percent ?? 0)} % – blockjobd`;
  }
  return `${name ?? VIEWS[view].title()} – blockjobd`;
}

function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no ${id}`);
  return found;
}

addEventListener('hashchange', () => {
  filter = '';
  live.open(route());
  render();
  // Like a new page: read from its top.
  scrollTo(0, 0);
  main.querySelector<HTMLElement>('h1')?.focus({ preventScroll: true });
});

skip.addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});

main.addEventListener('input', ({ target }) => {
  if (!(target instanceof HTMLInputElement) || target.dataset['do'] !== 'filter') return;
  filter = target.value;
  render();
});

main.addEventListener('click', ({ target }) => {
  if (target instanceof HTMLElement && target.dataset['do'] === 'more') live.showMoreEnded();
});

live.open(route());
render();
// Numbers become old without an event.
setInterval(news, 1000);
void live.run();
