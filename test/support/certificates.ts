/** An authority and what it signs, made with openssl in a folder of the test. */
import { join } from 'node:path';
import { run } from './qemu.ts';

export interface Pair {
  readonly certificateFile: string;
  readonly privateKeyFile: string;
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

  /** A certificate for this machine, for both ends. */
  async sign(name: string): Promise<Pair> {
    const pair = { certificateFile: join(this.#dir, `${name}.pem`), privateKeyFile: join(this.#dir, `${name}.key`) };
    const files = ['-keyout', pair.privateKeyFile, '-out', pair.certificateFile];
    const by = ['-CA', this.caFile, '-CAkey', this.#keyFile, '-days', '2'];
    const is = ['-addext', 'basicConstraints=critical,CA:false', '-addext', 'extendedKeyUsage=serverAuth,clientAuth'];
    const at = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
    await run('openssl', ['req', '-x509', ...KEY, ...files, ...by, ...at, ...is]);
    return pair;
  }
}
