import { Metadata } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { EPOCH_HEADER } from '../../../src/grpc/identity.ts';
import { agentTooOld, isBefore, refuseOlderGateway, VERSION_HEADER } from '../../../src/grpc/versions.ts';
import { VERSION } from '../../../src/lib/version.ts';

describe('a version', () => {
  it.each([
    ['0.0.9', '0.1.0'],
    ['0.9.9', '0.10.0'],
    ['0.1.0-5189f6b8999f', '0.1.0'],
    ['0.1.0-rc.1', '0.1.0'],
    ['', '0.1.0'],
  ])('%s is before %s', (version, since) => expect(isBefore(version, since)).toBe(true));

  it.each([
    ['0.1.0', '0.1.0'],
    ['0.10.0', '0.9.9'],
    ['0.2.0-rc.1', '0.1.0'],
    ['1.0.0', '0.1.0'],
  ])('%s is not before %s', (version, since) => expect(isBefore(version, since)).toBe(false));
});

describe('a gateway that does not report its version', () => {
  const server = { host: 'h1', version: '0.3.0' };
  const ask = (rpc: string, headers: Readonly<Record<string, string>>) => () => {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    refuseOlderGateway(rpc, metadata, server);
  };

  it.each(['StartCopy', 'Rebase', 'Commit', 'CheckOperation'])('gets no %s', (rpc) => {
    const versions = { host: 'h1', agentVersion: '0.3.0', gatewayVersion: 'unknown', feature: rpc };
    expect(ask(rpc, { [EPOCH_HEADER]: '0' })).toThrow(
      expect.objectContaining({
        failure: expect.objectContaining({ reason: 'VERSIONS_DIFFER', metadata: versions }) as unknown,
      }),
    );
  });

  it('gets all other calls; a gateway that reports its version and a client that is not a gateway get all', () => {
    expect(ask('Abort', { [EPOCH_HEADER]: '0' })).not.toThrow();
    expect(ask('StartCopy', { [EPOCH_HEADER]: '0', [VERSION_HEADER]: '0.1.0' })).not.toThrow();
    expect(ask('StartCopy', {})).not.toThrow();
  });
});

it('the error about an agent that does not report its version names its host', () => {
  expect(agentTooOld({ host: 'h1', agentVersion: '' }, 'WatchJobs').failure).toEqual({
    reason: 'VERSIONS_DIFFER',
    metadata: { host: 'h1', agentVersion: 'unknown', gatewayVersion: VERSION, feature: 'WatchJobs' },
    text: `the agent of host h1 has version unknown, and the gateway has ${VERSION}: the agent is too old for WatchJobs; upgrade the agent. Nothing was changed`,
  });
});
