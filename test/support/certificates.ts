/** An authority and what it signs, made with openssl in a folder of the test. */
import { writeFile } from 'node:fs/promises';
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

  /** A certificate for this machine, for both ends. `uri`: its SPIFFE id. */
  async sign(name: string, { uri }: { uri?: string } = {}): Promise<Pair> {
    const pair = { certificateFile: join(this.#dir, `${name}.pem`), privateKeyFile: join(this.#dir, `${name}.key`) };
    const files = ['-keyout', pair.privateKeyFile, '-out', pair.certificateFile];
    const by = ['-CA', this.caFile, '-CAkey', this.#keyFile, '-days', '2'];
    const is = ['-addext', 'basicConstraints=critical,CA:false', '-addext', 'extendedKeyUsage=serverAuth,clientAuth'];
    const names = ['DNS:localhost', 'IP:127.0.0.1', ...(uri === undefined ? [] : [`URI:${uri}`])];
    const at = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=${names.join()}`];
    await run('openssl', ['req', '-x509', ...KEY, ...files, ...by, ...at, ...is]);
    return pair;
  }

  /** As sign(), of last year. */
  async signExpired(name: string, uri: string): Promise<Pair> {
    const pair = await this.sign(name, { uri });
    const request = join(this.#dir, `${name}.csr`);
    const database = join(this.#dir, `${name}.index`);
    const config = join(this.#dir, `${name}.cnf`);
    await writeFile(database, '');
    await writeFile(
      config,
      `[ca]\ndefault_ca=x\n[x]\ndatabase=${database}\nrand_serial=yes\npolicy=p\n[p]\ncommonName=supplied\n`,
    );
    await run('openssl', ['req', '-new', '-key', pair.privateKeyFile, '-subj', `/CN=${name}`, '-out', request]);
    const dates = ['-startdate', '20200101000000Z', '-enddate', '20200102000000Z'];
    const how = ['-config', config, '-batch', '-notext', '-md', 'sha256', '-outdir', this.#dir];
    const by = ['-cert', this.caFile, '-keyfile', this.#keyFile, '-in', request, '-out', pair.certificateFile];
    await run('openssl', ['ca', ...how, ...dates, ...by]);
    return pair;
  }
}
