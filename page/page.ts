/** Starts the page: the view in the address, and its contents at each news. */
import { ServerMode } from '../generated/es/blockjob/v1/server_service_pb.js';
import { type Child, h, patch } from './dom.ts';
import { Live, type Opened } from './live.ts';
import { heading, nameOf, when } from './parts.ts';
import { Plots } from './plots.ts';
import { domainView } from './views/domain.ts';
import { domainsView } from './views/domains.ts';
import { jobView } from './views/job.ts';
import { jobsView } from './views/jobs.ts';
import { leftoversView } from './views/leftovers.ts';
import { clock } from './words.ts';

const live = new Live(render);
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
  /** The requests while one of them is open. */
  readonly opens: (name: string) => Opened;
  readonly shows: (name: string | undefined) => Child[];
}

/** In the order of the links at the top. */
const VIEWS = {
  jobs: {
    href: '#/',
    text: 'Jobs',
    count: () => live.running.length,
    title: () => `${live.running.length} running`,
    opens: (job) => ({ job }),
    shows: () => (live.watch === undefined ? jobsView(live, filter) : jobView(live.watch)),
  },
  domains: {
    href: '#/domains',
    text: 'Virtual machines',
    count: () => 0,
    title: () => 'Virtual machines',
    opens: (domain) => ({ domain }),
    shows: (name) => (name === undefined ? domainsView(live) : domainView(name, live.domain)),
  },
  leftovers: {
    href: '#/leftovers',
    text: 'Leftovers',
    count: () => live.leftovers.length,
    title: () => 'Leftovers',
    opens: () => undefined,
    shows: () => leftoversView(live),
  },
} as const satisfies Readonly<Record<string, Viewed>>;

type View = keyof typeof VIEWS;

function isView(text: string): text is View {
  return Object.hasOwn(VIEWS, text);
}

/** `#/jobs/ID`, `#/domains/NAME` and so on; any other text means all jobs. */
function route(): { readonly view: View; readonly name: string | undefined } {
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

function openedBy({ view, name }: ReturnType<typeof route>): Opened {
  return name === undefined ? undefined : VIEWS[view].opens(name);
}

function render(): void {
  const { view, name } = route();
  patch(nav, navigation(view));
  patch(connection, connectionNow());
  patch(host, h('p', {}, live.server?.host));
  patch(server, serverNow());
  document.body.classList.toggle('cut-off', live.cutOff !== undefined);
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
  const text = live.cutOff !== undefined ? 'Disconnected' : live.isKnown ? 'Live' : 'Connecting';
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
  if (live.unreachableHosts.length === 0) return undefined;
  return h(
    'div',
    { class: 'notice warn', 'data-key': 'outage' },
    h('h2', {}, 'Some hosts do not answer'),
    h('p', {}, `Their jobs and VMs are missing here: ${live.unreachableHosts.join(', ')}.`),
  );
}

function titleOf(view: View, name: string | undefined): string {
  const job = live.watch?.job;
  if (job !== undefined) return `${nameOf(job)} ${Math.floor(job.progress?.percent ?? 0)} % – blockjobd`;
  return `${name ?? VIEWS[view].title()} – blockjobd`;
}

function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no ${id}`);
  return found;
}

addEventListener('hashchange', () => {
  filter = '';
  live.open(openedBy(route()));
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

document.addEventListener('visibilitychange', () => live.look());

live.open(openedBy(route()));
render();
void live.run();
