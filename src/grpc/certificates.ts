/**
 * Our certificate and the trusted authorities, as in their files now. A new pair is used for new connections, and
 * existing ones continue; a pair that does not match (half of it is not written yet) is not used.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import {
  type ChannelCredentials,
  type experimental,
  experimental as grpc,
  type ServerCredentials,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import '../lib/tls-1-3.ts';
import type { TlsFiles } from '../lib/tls-files.ts';
import { WatchedFiles } from '../lib/watched-files.ts';
import { identitiesIn } from './identity.ts';

type Provider = experimental.CertificateProvider;
type CaListener = Parameters<Provider['addCaCertificateListener']>[0];
type IdentityListener = Parameters<Provider['addIdentityCertificateListener']>[0];

interface Pems {
  readonly certificate: Buffer;
  readonly privateKey: Buffer;
  readonly caCertificate: Buffer;
}

export class Certificates implements Provider, Disposable {
  readonly #files: TlsFiles;
  readonly #log: Logger;
  readonly #watched: WatchedFiles;
  readonly #caListeners = new Set<CaListener>();
  readonly #identityListeners = new Set<IdentityListener>();
  #pems: Pems;

  /** Throws with what is wrong with the files. */
  constructor(files: TlsFiles, log: Logger) {
    this.#files = files;
    this.#log = log;
    this.#pems = read(files);
    this.#watched = new WatchedFiles(Object.values(files), () => this.#reread());
  }

  /** Our own name: the first SPIFFE id, or the first DNS name. */
  get identity(): string | undefined {
    return identitiesIn(new X509Certificate(this.#pems.certificate).subjectAltName)[0];
  }

  /** When our certificate ends. */
  get ends(): Date {
    return new Date(new X509Certificate(this.#pems.certificate).validTo);
  }

  /** For a server that admits only clients with a certificate of our authorities. */
  forServer(): ServerCredentials {
    return grpc.createCertificateProviderServerCredentials(this, this, true);
  }

  /** For a client. `identity`: the name in the server's certificate; '' for the host of its address. */
  forClient(identity: string): ChannelCredentials {
    const checkServerIdentity = (host: string, certificate: tls.PeerCertificate) => {
      if (identity === '') return tls.checkServerIdentity(host, certificate);
      if (identitiesIn(certificate.subjectaltname).includes(identity)) return undefined;
      return new Error(`the server at ${host} is not ${identity}, but ${certificate.subjectaltname ?? 'nobody'}`);
    };
    return grpc.createCertificateProviderChannelCredentials(this, this, { checkServerIdentity });
  }

  addCaCertificateListener(listener: CaListener): void {
    this.#caListeners.add(listener);
    process.nextTick(listener, this.#pems);
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#caListeners.delete(listener);
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.add(listener);
    process.nextTick(listener, this.#pems);
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.delete(listener);
  }

  #reread(): void {
    try {
      const pems = read(this.#files);
      const isSame = (key: keyof Pems) => pems[key].equals(this.#pems[key]);
      if (isSame('certificate') && isSame('privateKey') && isSame('caCertificate')) return;
      this.#pems = pems;
      for (const listener of this.#caListeners) listener(pems);
      for (const listener of this.#identityListeners) listener(pems);
      this.#log.info({ identity: this.identity }, 'The certificates have changed; new connections use the new ones');
    } catch (error) {
      const wrong = error instanceof Error ? error.message : String(error);
      this.#log.warn({ wrong }, 'The certificate files are wrong; the previous certificates stay in use');
    }
  }

  [Symbol.dispose](): void {
    this.#watched[Symbol.dispose]();
  }
}

function read({ certificateFile, privateKeyFile, caFile }: TlsFiles): Pems {
  const certificate = readFileSync(certificateFile);
  const privateKey = readFileSync(privateKeyFile);
  const caCertificate = readFileSync(caFile);
  const fits = new X509Certificate(certificate).checkPrivateKey(createPrivateKey(privateKey));
  if (!fits) throw new Error(`${privateKeyFile} is not the key of ${certificateFile}`);
  tls.createSecureContext({ cert: certificate, key: privateKey, ca: caCertificate });
  return { certificate, privateKey, caCertificate };
}
