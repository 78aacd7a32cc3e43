/** The command and a job whose pivot needs the record of the owner of the VM's configuration. */
import { describe, expect, it } from 'vitest';
import { PIVOTED, StubService } from '../../support/service/stub-service.ts';
import { DESTINATION, JOB, SOURCE, timeOf } from '../core/stories.ts';

const GATE = { token: 'token-1', nextStartPath: DESTINATION, openTime: timeOf(4) };
const RECORDED = { ...GATE, recordTime: timeOf(5) };

function atGate(): StubService {
  const service = new StubService();
  service.gate = GATE;
  service.course = ['RUNNING', 'READY'];
  return service;
}

describe('a job with a gate', () => {
  it('is started with the owner that the option names', async () => {
    const service = new StubService();
    await service.run(['copy', 'vm1', 'vd0', DESTINATION, '--config-owner', 'external']);
    expect(service.request('startCopy')).toMatchObject({ configOwner: 'EXTERNAL' });
    await service.run(['commit', 'vm1', 'vd0', '--active', '--config-owner', 'none']);
    expect(service.request('commit')).toMatchObject({ configOwner: 'NONE' });
  });

  it('is shown with its token and its path', async () => {
    const service = atGate();
    const { stdout } = await service.run(['info', JOB]);
    expect(stdout).toContain(`Gate:        token-1 for ${DESTINATION}, not recorded yet`);
    service.gate = RECORDED;
    expect((await service.run(['info', JOB])).stdout).toContain(`recorded ${timeOf(5)}`);
  });

  it('says at READY what comes before the pivot', async () => {
    const { stdout, code } = await atGate().run(['copy', 'vm1', 'vd0', DESTINATION, '--wait']);
    expect(stdout).toContain(`write ${DESTINATION} into the configuration of the VM`);
    expect(stdout).toContain(`blockjob pivot ${JOB} --recorded token-1`);
    expect(code).toBe(0);
  });

  it('pivots with the record', async () => {
    const service = atGate();
    service.go('COMPLETED');
    service.outcome = PIVOTED;
    await service.run(['pivot', JOB, '--recorded', 'token-1']);
    expect(service.request('abort')).toMatchObject({ pivot: true, record: { token: 'token-1' }, recordOnly: false });
  });

  it('gets the record alone', async () => {
    const service = atGate();
    const { code } = await service.run(['pivot', JOB, '--recorded', 'token-1', '--record-only']);
    expect(service.request('abort')).toMatchObject({ pivot: true, record: { token: 'token-1' }, recordOnly: true });
    expect(code).toBe(0);
    expect((await service.run(['pivot', JOB, '--record-only'])).code).toBe(2);
  });

  it.each([
    ['by the service', ['copy', 'vm1', 'vd0', DESTINATION, '--pivot']],
    ['by the command', ['rebase', 'vm1', 'vd0', DESTINATION, '--copy', '--pivot']],
  ])('is waited for until somebody has recorded the path: a pivot %s', async (_by, args) => {
    const service = atGate();
    const running = service.run(args);
    await service.isAsked(args[0] === 'copy' ? 'startCopy' : 'rebase');
    service.gate = RECORDED;
    service.outcome = PIVOTED;
    service.go('READY', 'COMPLETED');
    const { stdout } = await running;
    expect(stdout).toContain('Successfully pivoted');
  });

  it('is not pivoted by the command before that', async () => {
    const service = atGate();
    const running = service.run(['rebase', 'vm1', 'vd0', DESTINATION, '--copy', '--pivot']);
    await service.isAsked('rebase');
    service.outcome = { ...PIVOTED, guestWritesTo: SOURCE, setConfigBackTo: SOURCE, safeToDelete: [] };
    service.go('CANCELLED');
    const { stdout, stderr, code } = await running;
    expect(service.request('abort')).toBeUndefined();
    expect(stderr).toContain(`blockjob pivot ${JOB} --recorded token-1`);
    expect(stdout).toContain(`Set the configuration of the VM back to ${SOURCE}`);
    expect(code).toBe(4);
  });
});
