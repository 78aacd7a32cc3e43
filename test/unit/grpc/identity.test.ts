/* oxlint-disable unicorn/consistent-function-scoping */
import { Metadata } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { CALLER_HEADER, EPOCH_HEADER, identitiesIn, peerOf, RIGHTS_HEADER } from '../../../src/grpc/identity.ts';

describe('the names in a certificate', () => {
  it.each([
    [undefined, []],
    ['', []],
    ['DNS:a.example, IP Address:127.0.0.1', ['a.example']],
    ['DNS:a.example, URI:spiffe://site/x', ['spiffe://site/x', 'a.example']],
    ['URI:https://site/x, DNS:b', ['b']],
    ['URI:spiffe://site/x, URI:spiffe://site/y', ['spiffe://site/x', 'spiffe://site/y']],
    // As Node writes a name with a comma, which is not the start of another name.
    ['DNS:"evil, URI:spiffe://site/ops"', []],
    ['URI:"spiffe://site/a, DNS:b", DNS:c', ['c']],
    // Names of the other kind, or no names.
    ['DNS:spiffe://site/ops, DNS:b', ['b']],
    ['URI:ops.example', []],
    ['DNS:"\\x"', []],
    ['URI:spiffe://Site/x, URI:spiffe://site/../x, URI:spiffe://site/x/, URI:spiffe://site/x?y, URI:spiffe://', []],
    ['URI:spiffe://site, DNS:*.example, DNS:a b, DNS:a..b', ['spiffe://site', '*.example']],
    ['email:x@y, URI:spiffe://site/x', ['spiffe://site/x']],
  ])('%j', (text, names) => {
    expect(identitiesIn(text)).toEqual(names);
  });
});

describe('the name of the caller', () => {
  const GATEWAYS = new Set(['spiffe://site/gateway/g1']);
  const call = (subjectaltname: string | undefined, headers: Record<string, string | Buffer> = {}) => {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    return {
      metadata,
      getAuthContext: () => (subjectaltname === undefined ? {} : { sslPeerCertificate: { subjectaltname } }),
    };
  };
  const MINE = { read: ['web*'], operate: [] };
  const headers = {
    [CALLER_HEADER]: encodeURIComponent('spiffe://site/ops'),
    [EPOCH_HEADER]: '7',
    [RIGHTS_HEADER]: Buffer.from(JSON.stringify(MINE)),
  };
  const gateway = 'URI:spiffe://site/gateway/g1';

  it('is the name in its certificate, and undefined in plaintext', () => {
    expect(peerOf(call('URI:spiffe://site/x'), GATEWAYS)).toEqual({ caller: 'spiffe://site/x' });
    expect(peerOf(call(undefined), GATEWAYS)).toEqual({});
  });

  it('is the name from a gateway, or that of the gateway itself', () => {
    expect(peerOf(call(gateway, headers), GATEWAYS)).toEqual({
      caller: 'spiffe://site/ops',
      via: 'spiffe://site/gateway/g1',
      epoch: 7n,
      grant: MINE,
    });
    expect(peerOf(call(gateway), GATEWAYS)).toMatchObject({
      caller: 'spiffe://site/gateway/g1',
      via: 'spiffe://site/gateway/g1',
    });
  });

  it('is not taken from the headers of any other client', () => {
    expect(peerOf(call('URI:spiffe://site/x', headers), GATEWAYS)).toEqual({ caller: 'spiffe://site/x' });
    expect(peerOf(call('DNS:spiffe://site/gateway/g1', headers), GATEWAYS)).toEqual({});
    expect(peerOf(call(undefined, headers), GATEWAYS)).toEqual({});
  });

  it.each([
    [CALLER_HEADER, '%'],
    [CALLER_HEADER, '%ff'],
    [CALLER_HEADER, ''],
    [EPOCH_HEADER, ''],
    [EPOCH_HEADER, '-1'],
    [EPOCH_HEADER, '0x10'],
    [EPOCH_HEADER, '1'.repeat(20)],
    [RIGHTS_HEADER, Buffer.from('{')],
    [RIGHTS_HEADER, Buffer.from('null')],
    [RIGHTS_HEADER, Buffer.from('{"read":["*"]}')],
    [RIGHTS_HEADER, Buffer.from('{"read":[],"operate":[1]}')],
  ])('a gateway that sends %s: %j is told that this says nothing', (header, value) => {
    const peer = peerOf(call(gateway, { ...headers, [header]: value }), GATEWAYS);
    expect(peer).toMatchObject({
      via: 'spiffe://site/gateway/g1',
      wrong: { reason: 'GATEWAY_HEADER_INVALID', metadata: { header } },
    });
    expect([peer.caller, peer.epoch, peer.grant]).toEqual([undefined, undefined, undefined]);
  });

  it('is missing if a gateway names two callers', () => {
    const asked = call(gateway, headers);
    asked.metadata.add(CALLER_HEADER, 'spiffe%3A%2F%2Fsite%2Fother');
    expect(peerOf(asked, GATEWAYS).wrong).toMatchObject({
      text: expect.stringContaining('it was sent 2 times') as string,
    });
  });
});
