/** docs/metrics.md lists exactly the existing metrics, and deploy/ mentions no other; its alerts and links exist. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { CallMeters } from '../../src/metrics/calls.ts';
import { addDirectory, addFleet, OwnershipMeters } from '../../src/metrics/fleet.ts';
import { HostMeters } from '../../src/metrics/host.ts';
import { Meters } from '../../src/metrics/meters.ts';
import { addService } from '../../src/metrics/service.ts';
import { present } from '../support/checks.ts';
import { DocPage } from '../support/doc-page.ts';
import { REPOSITORY } from '../support/service/service.ts';

const never = async () => await Promise.reject(new Error('nobody asks'));

function addCommon(meters: Meters): void {
  void new CallMeters(meters, 'serve');
  addService(meters, { version: '1', mode: 'agent', certificateEnds: () => undefined, linesDropped: () => 0 });
}

/** As src/modes constructs them. */
function metersOf(mode: 'agent' | 'gateway'): Meters {
  const meters = new Meters();
  addCommon(meters);
  addDirectory(meters, () => true);
  if (mode === 'gateway') {
    addFleet(meters, () => ({ reachable: 0, unreachable: 0, missing: 0, watchers: 0, upstreamWatches: 0 }));
    void new CallMeters(meters, 'ask');
  } else {
    void new HostMeters(meters, never);
    void new OwnershipMeters(meters);
  }
  return meters;
}

/** Name, type and labels, as in a row. */
function rowsOf({ registry }: Meters): readonly string[] {
  return registry
    .getMetricsAsArray()
    .map((metric) => {
      const { name, type, labelNames } = metric as typeof metric & { readonly labelNames: readonly string[] };
      return [name, String(type), labelNames.filter((label) => label !== 'le').join(', ')].join(' | ');
    })
    .toSorted();
}

const page = new DocPage('metrics.md');
const [every = [], host = [], agent = [], gateway = []] = page.section('Metrics').tables;

function documented(...tables: readonly (readonly (readonly string[])[])[]): readonly string[] {
  return tables
    .flat()
    .map((cells) => cells.slice(0, 3).join(' | '))
    .toSorted();
}

test('docs/metrics.md lists the metrics of an agent and of a gateway, with type and labels', () => {
  expect(documented(every, host, agent)).toEqual(rowsOf(metersOf('agent')));
  expect(documented(every, gateway)).toEqual(rowsOf(metersOf('gateway')));
});

test('no label can name a domain, a job, a path or a caller', () => {
  const labels = new Set([metersOf('agent'), metersOf('gateway')].flatMap((meters) => labelsOf(meters)));
  const bounded = [
    'code',
    'command',
    'convergence',
    'kind',
    'level',
    'method',
    'mode',
    'outcome',
    'reason',
    'state',
    'version',
  ];
  expect([...labels].toSorted()).toEqual(bounded);
});

function labelsOf(meters: Meters): readonly string[] {
  return rowsOf(meters)
    .flatMap((row) => present(row.split(' | ')[2]).split(', '))
    .filter((label) => label !== '');
}

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: Readonly<Record<'summary' | 'description' | 'runbook', string>>;
}

function textOf(path: string): string {
  return readFileSync(join(REPOSITORY, path), 'utf8');
}

const [group] = (parse(textOf('deploy/prometheus/blockjobd.rules.yml')) as { groups: [{ rules: Rule[] }] }).groups;

describe.each(group.rules)('the alert $alert', ({ alert, labels, annotations }) => {
  test('says what is wrong, what to do, and where that is explained', () => {
    expect(['info', 'warning', 'critical']).toContain(labels.severity);
    expect(annotations.summary).toMatch(/\{\{ \$labels\.instance \}\}/);
    expect(annotations.description.length).toBeGreaterThan(60);
    const [path = '', anchor] = annotations.runbook.split('#');
    expect(existsSync(join(REPOSITORY, path)), path).toBe(true);
    const headings = [...textOf(path).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading));
    expect(headings).toContain(anchor);
  });

  test('is tested, as one that fires and as one that does not', () => {
    const tests = parse(textOf('deploy/prometheus/blockjobd.test.yml')) as {
      tests: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }[];
    };
    const mine = tests.tests.flatMap(({ alert_rule_test: all }) => all.filter(({ alertname }) => alertname === alert));
    expect(new Set(mine.map(({ exp_alerts: told }) => told.length > 0))).toEqual(new Set([true, false]));
  });
});

/** The anchor that GitHub makes for a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\w\- ]/g, '')
    .replaceAll(' ', '-');
}

test('docs/metrics.md lists the alerts', () => {
  const rows = present(page.section('Alerts and dashboard').tables[0]);
  expect(rows.map(([alert]) => alert)).toEqual(group.rules.map(({ alert }) => alert));
});

test('alerts and dashboard mention existing metrics only', () => {
  const known = new Set(
    [metersOf('agent'), metersOf('gateway')].flatMap((meters) => rowsOf(meters)).map((row) => row.split(' | ')[0]),
  );
  for (const file of ['deploy/prometheus/blockjobd.rules.yml', 'deploy/grafana/blockjobd.json']) {
    const named = [...textOf(file).matchAll(/\bblockjob_\w+/g)].map(([name]) =>
      name.replace(/_(bucket|count|sum)$/, ''),
    );
    expect(named.length).toBeGreaterThan(10);
    expect([...new Set(named)].filter((name) => !known.has(name))).toEqual([]);
  }
});
