/** An authority and its certificates, made with openssl in a folder of the test. */
import { join } from 'node:path';
import { run } from '../real-qemu/qemu.ts';

export interface Pair {
  readonly certificateFile: string;
  readonly privateKeyFile: string;
}

export interface SignOptions {
  /** Its SPIFFE id. */
  readonly uri?: string;
  readonly dns?: string;
  /** 0: it expires at once. */
  readonly days?: number;
  /** Its purpose. */
  readonly usage?: string;
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export class Authority {
  readonly caFile: string;
  readonly #keyFile: string;
  readonly #dir: string;

  private constructor(dir: string, name: string) {
    this.#dir = dir;
    this.caFile = join(dir, `${name}.pem`);
    this.#keyFile = join(dir, `${name}.key`);
  }

  static async make(dir: string, name = 'ca'): Promise<Authority> {
    const authority = new Authority(dir, name);
    const files = ['-keyout', authority.#keyFile, '-out', authority.caFile];
    await run('openssl', ['req', '-x509', ...KEY, ...files, '-days', '2', '-subj', `/CN=${name}`]);
    return authority;
  }

  /** A certificate for both ends, for this machine or the named one. */
  async sign(
    name: string,
    { uri, dns = 'localhost', days = 2, usage = 'serverAuth,clientAuth' }: SignOptions = {},
  ): Promise<Pair> {
    const pair = { certificateFile: join(this.#dir, `${name}.pem`), privateKeyFile: join(this.#dir, `${name}.key`) };
    const request = join(this.#dir, `${name}.csr`);
    const names = [`DNS:${dns}`, 'IP:127.0.0.1', ...(uri === undefined ? [] : [`URI:${uri}`])];
    const extensions = [
      `subjectAltName=${names.join()}`,
      'basicConstraints=critical,CA:false',
      `extendedKeyUsage=${usage}`,
    ].flatMap((extension) => ['-addext', extension]);
    const files = ['-keyout', pair.privateKeyFile, '-out', request];
    await run('openssl', ['req', '-new', ...KEY, ...files, '-subj', `/CN=${name}`, ...extensions]);
    const by = ['-CA', this.caFile, '-CAkey', this.#keyFile, '-days', String(days)];
    const what = ['-in', request, '-out', pair.certificateFile, '-copy_extensions', 'copyall'];
    await run('openssl', ['x509', '-req', ...what, ...by]);
    return pair;
  }
}
