/** The proof or the caller's word on which a copy depends, and its effect. */
import { describe, expect, it } from 'vitest';
import { concludedJob } from '../../../../src/core/job/job.ts';
import type { Accepted, Concluded, EntryBody, Reused } from '../../../../src/core/job/journal-entry.ts';
import type { Outcome } from '../../../../src/core/job/outcome.ts';
import { outcomeAtEnd } from '../../../../src/core/job/outcome-of.ts';
import { VERIFY_STEP } from '../../../../src/core/job/reuse.ts';
import type { Plan } from '../../../../src/core/job/step.ts';
import { notesOf } from '../../../../src/core/plans/notes.ts';
import { ACCEPTED, DESTINATION, jobWith, pivot, READY, RUNNING, SOURCE } from '../stories.ts';

type Changes = Parameters<typeof jobWith>[0];

const REUSED = { path: DESTINATION, backing: '/vm/snap1' };
const ON_COPY: Concluded = {
  entry: 'concluded',
  how: 'CONCLUDED',
  qemuError: undefined,
  deviceOn: 'DESTINATION',
  devicePath: DESTINATION,
};

function pivoted(changes: Changes, ...before: readonly EntryBody[]): Outcome {
  const job = jobWith(changes, ...before, RUNNING, READY, pivot('AUTO'), ON_COPY);
  return outcomeAtEnd(concludedJob(job));
}

/** The old images that may be deleted, and the notes about reused data. */
function told(changes: Changes, ...before: readonly EntryBody[]): readonly [readonly string[], string | undefined] {
  const { safeToDelete, evidence } = pivoted(changes, ...before);
  const others = pivoted({}).evidence.map(({ text }) => text);
  return [
    safeToDelete.map(({ path }) => path),
    evidence.map(({ text }) => text).find((text) => !others.includes(text)),
  ];
}

const by = (how: Reused['by']): Changes => ({ reused: { by: how, ...REUSED } });

/** As an older service began it. */
function older(sync: 'top' | 'full', made: readonly string[] = []): Changes {
  const steps = made.map((name): Plan[number] => ({ name, run: { do: 'end-qmp-job', qemuJob: 'x' } }));
  const mirror = {
    do: 'qmp',
    command: { execute: 'blockdev-mirror', arguments: { sync } },
  };
  return {
    plan: [...steps, { name: 'start-mirror', run: mirror }] as unknown as Plan,
    options: { shallow: true, reuseExternal: true },
  };
}

describe('the destination before the job', () => {
  it('on the caller’s word lets go of no old image, and a note says so', () => {
    const text = `only the caller says that ${DESTINATION} had the contents of /vm/snap1 before the copy began: they were not compared`;
    expect(told(by('WORD'))).toEqual([[], text]);
    expect(pivoted(by('WORD')).destinationContent).toBe('COMPLETE');
    expect(notesOf({ ...ACCEPTED, reused: { by: 'WORD', ...REUSED } }, REQUEST)).toEqual([text]);
  });

  it('that is proved lets go of it, and a note says so', () => {
    const [safe, text] = told(by('SAME_FILE'));
    expect([safe, text?.includes('its backing file is /vm/snap1 itself')]).toEqual([[SOURCE], true]);
  });

  it('that was compared lets go of it; only the plan to compare it does not', () => {
    const done: EntryBody = { entry: 'step-done', step: VERIFY_STEP };
    const started: EntryBody = { entry: 'step-started', step: VERIFY_STEP };
    const [safe, text] = told(by('COMPARED'), started, done);
    expect([safe, text?.includes('both were compared completely')]).toEqual([[SOURCE], true]);
    expect(told(by('COMPARED'), started)).toEqual([[], expect.stringContaining('they were not compared')]);
    const accepted = { ...ACCEPTED, ...by('COMPARED') } as Accepted;
    expect(notesOf(accepted, REQUEST)).toEqual([
      expect.stringContaining('/vm/snap1 are read completely and compared before'),
    ]);
  });

  it('that reuses nothing has no note', () => {
    expect(told({})).toEqual([[SOURCE], undefined]);
    expect(notesOf(ACCEPTED, REQUEST)).toEqual([]);
  });

  it('in a journal of an older service is known from its plan', () => {
    expect(told(older('top'))).toEqual([[], expect.stringContaining('only the caller says')]);
    expect(told(older('full'))).toEqual([[SOURCE], undefined]);
    // It made them: a new file, or a header on a device.
    expect(told(older('top', ['create-destination', 'format-destination']))).toEqual([[SOURCE], undefined]);
    expect(told(older('top', ['format-destination']))).toEqual([[SOURCE], undefined]);
    expect(told({ ...older('top'), options: { shallow: true } })).toEqual([[SOURCE], undefined]);
  });

  it('is not known of a job whose journal was lost', () => {
    expect(told({ recovered: true, plan: [] })).toEqual([[], expect.stringContaining('lost journal')]);
  });
});

const REQUEST = {
  disk: { domain: 'vm1', disk: 'vd0' },
  requestId: '',
  validateOnly: true,
  planEtag: '',
  accept: [],
} as const;
