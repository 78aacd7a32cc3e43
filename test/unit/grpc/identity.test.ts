/* oxlint-disable unicorn/consistent-function-scoping */
import { Metadata } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { CALLER_HEADER, EPOCH_HEADER, identitiesIn, peerOf } from '../../../src/grpc/identity.ts';

describe('the names in a certificate', () => {
  it.each([
    [undefined, []],
    ['', []],
    ['DNS:a.example, IP Address:127.0.0.1', ['a.example']],
    ['DNS:a.example, URI:spiffe://site/x', ['spiffe://site/x', 'a.example']],
    ['URI:https://site/x, DNS:b', ['b']],
    ['URI:spiffe://site/x, URI:spiffe://site/y', ['spiffe://site/x', 'spiffe://site/y']],
    // As Node writes a name with a comma, which is not the start of another name.
    ['DNS:"evil, URI:spiffe://site/ops"', ['evil, URI:spiffe://site/ops']],
    ['URI:"spiffe://site/a, DNS:b", DNS:c', ['spiffe://site/a, DNS:b', 'c']],
    ['email:x@y, URI:spiffe://site/x', ['spiffe://site/x']],
  ])('%j', (text, names) => {
    expect(identitiesIn(text)).toEqual(names);
  });
});

describe('who asks', () => {
  const GATEWAYS = new Set(['spiffe://site/gateway/g1']);
  const call = (subjectaltname: string | undefined, headers: Record<string, string> = {}) => {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    return {
      metadata,
      getAuthContext: () => (subjectaltname === undefined ? {} : { sslPeerCertificate: { subjectaltname } }),
    };
  };
  const headers = { [CALLER_HEADER]: encodeURIComponent('spiffe://site/ops'), [EPOCH_HEADER]: '7' };

  it('is who its certificate names, and nobody in plaintext', () => {
    expect(peerOf(call('URI:spiffe://site/x'), GATEWAYS)).toEqual({ caller: 'spiffe://site/x' });
    expect(peerOf(call(undefined), GATEWAYS)).toEqual({});
  });

  it('is whom a gateway names, or the gateway itself', () => {
    const gateway = 'URI:spiffe://site/gateway/g1';
    expect(peerOf(call(gateway, headers), GATEWAYS)).toEqual({
      caller: 'spiffe://site/ops',
      via: 'spiffe://site/gateway/g1',
      epoch: 7n,
    });
    expect(peerOf(call(gateway), GATEWAYS)).toMatchObject({
      caller: 'spiffe://site/gateway/g1',
      via: 'spiffe://site/gateway/g1',
    });
  });

  it('nobody else is believed about whose call it is', () => {
    expect(peerOf(call('URI:spiffe://site/x', headers), GATEWAYS)).toEqual({ caller: 'spiffe://site/x' });
    expect(peerOf(call(undefined, headers), GATEWAYS)).toEqual({});
  });
});
