/**
 * A caller's error about an NBD server is described in words, with every QEMU, and is not a bug: nothing is left of the
 * call.
 */
import { status } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { graphOf } from '../support/checks.ts';
import { NbdServer, tlsCredentials } from '../support/images/nbd-server.ts';
import { needs } from '../support/means.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { refused } from '../support/service/caller.ts';

const SIZE = 16 * 1024 * 1024;

const object = (id: string, more: string) => ['-object', `${more},id=${id}`];

describe.skipIf(needs('qemu'))('an NBD server that QEMU does not get', () => {
  test('is reported with what to do, and no job is left', async () => {
    await using site = await Site.open(['nbd://127.0.0.1']);
    await using credentials = await testDir();
    const ends = await tlsCredentials(credentials.path);
    await using machine = await site.machine({
      extraArgs: [
        ...object('client0', `tls-creds-x509,endpoint=client,dir=${ends.client},verify-peer=yes`),
        ...object('server0', `tls-creds-x509,endpoint=server,dir=${ends.server},verify-peer=yes`),
        ...object('sec0', 'secret,data=x'),
      ],
    });
    await using secure = await NbdServer.start({
      folder: machine.dir,
      sizeBytes: SIZE,
      over: 'tcp',
      tls: ends.server,
    });
    await using plainFolder = await testDir();
    await using plain = await NbdServer.start({ folder: plainFolder.path, sizeBytes: SIZE, over: 'tcp' });
    const before = await graphOf(machine.qemu.admin);
    const nobody = { ...plain.target, server: { $case: 'tcp', value: { host: '127.0.0.1', port: 1 } } as const };
    const cases = [
      [{ ...secure.target, tlsCredentialsId: 'nope' }, 'TLS_CREDENTIALS_UNUSABLE'],
      [{ ...secure.target, tlsCredentialsId: 'sec0' }, 'TLS_CREDENTIALS_UNUSABLE'],
      [{ ...secure.target, tlsCredentialsId: 'server0' }, 'TLS_CREDENTIALS_UNUSABLE'],
      [secure.target, 'NBD_REFUSED'],
      [{ ...plain.target, tlsCredentialsId: 'client0' }, 'NBD_REFUSED'],
      [{ ...plain.target, exportName: 'no such' }, 'NBD_REFUSED'],
      [{ ...secure.target, tlsCredentialsId: 'client0', tlsHostname: 'other.example' }, 'NBD_REFUSED'],
      [nobody, 'DESTINATION_UNREACHABLE'],
    ] as const;
    for (const [value, reason] of cases) {
      const destination = { target: { $case: 'nbd', value } } as const;
      const refusal = await refused(site.service.startCopy({ disk: machine.disk, destination }));
      expect(refusal).toMatchObject({ code: status.FAILED_PRECONDITION, reason });
    }
    expect(await graphOf(machine.qemu.admin)).toEqual(before);
    expect(await site.service.listLeftovers(machine.disk.domain)).toEqual([]);
  });
});
