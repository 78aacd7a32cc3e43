/** The login to etcd by name and password: a token, renewed when etcd does not accept it any more. */
import { type Client, Metadata, status } from '@grpc/grpc-js';
import { AuthService } from '../../../generated/etcd/etcd.ts';
import { callUnary } from './call.ts';
import { isServiceError } from './errors.ts';

export interface NameAndPassword {
  readonly name: string;
  readonly password: string;
}

export class Login {
  readonly #who: NameAndPassword | undefined;
  /** The current token, or the request for it. */
  #asked: { readonly token: Promise<string | undefined>; known?: string | undefined } | undefined;

  constructor(who: NameAndPassword | undefined) {
    this.#who = who;
  }

  /** The metadata for a call. Rejects as a call does. */
  async metadata(client: Client, by: number, signal: AbortSignal): Promise<Metadata> {
    const metadata = new Metadata();
    if (this.#who === undefined) return metadata;
    // One request serves all that wait.
    const asked = (this.#asked ??= { token: authenticate(client, this.#who, by, signal) });
    try {
      asked.known = await asked.token;
    } catch (error) {
      if (this.#asked === asked) this.#asked = undefined;
      throw error;
    }
    if (asked.known !== undefined) metadata.set('token', asked.known);
    return metadata;
  }

  /** The token of that call is not valid any more. False if it had none, so that another attempt would be the same. */
  forget(metadata: Metadata): boolean {
    const [token] = metadata.get('token');
    if (token === undefined) return false;
    if (this.#asked?.known === token) this.#asked = undefined;
    return true;
  }
}

async function authenticate(
  client: Client,
  who: NameAndPassword,
  by: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const answer = await callUnary(client, AuthService.authenticate, { ...who }, new Metadata(), by, signal);
    return answer.token;
  } catch (error) {
    // This etcd has no authentication; like etcd's own clients, we continue without a token.
    if (isServiceError(error) && error.code === status.FAILED_PRECONDITION) return undefined;
    throw error;
  }
}
