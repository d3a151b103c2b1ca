/** Who is asking: the one answer for HTTP and WebSocket, from whichever kinds of token are configured. */
import type { IncomingMessage } from 'node:http';
import type { Logger } from 'pino';
import { Fault } from '../../errors.js';
import type { Caller } from '../../services.js';
import { presentedToken, unauthenticated } from './credentials.js';
import { type IssuerSettings, SignedTokens } from './signedTokens.js';
import { StaticTokens } from './staticTokens.js';

export interface Identity {
  caller: Caller;
  /** When it ends by itself, in milliseconds since 1970; null for never. */
  expiresAt: number | null;
  /** False once its token was taken back or means something else. */
  isCurrent(): boolean;
}

export interface Authenticator {
  /** False where everybody is the local administrator. */
  readonly required: boolean;
  /**
   * `connectionParams`: the payload of a WebSocket's connection_init.
   * @throws Fault UNAUTHENTICATED, or FORBIDDEN for a good token that gives no tenant or role here
   */
  identify(request: IncomingMessage, connectionParams?: Readonly<Record<string, unknown>>): Promise<Identity>;
  /** Tells of every moment at which identities may have ceased to be current. Returns what ends the telling. */
  onChange(listener: () => void): () => void;
  close(): void;
}

export interface IdentitySettings {
  /** Machines: see staticTokens.ts. */
  tokensFile: string | null;
  /** People: see signedTokens.ts. */
  issuer: IssuerSettings | null;
  logger: Logger;
}

/** Everyone who gets past access.ts administers the tenant `local`. Only ever for a service that listens on loopback. */
export const localAdministrator: Authenticator = {
  required: false,
  async identify() {
    return { caller: { tenantId: 'local', role: 'admin' }, expiresAt: null, isCurrent: () => true };
  },
  onChange: () => () => {},
  close() {},
};

/** @throws Fault INVALID_ARGUMENT (tokensFile) where that file is not usable */
export async function createAuthenticator(settings: IdentitySettings): Promise<Authenticator> {
  const { tokensFile, issuer, logger } = settings;
  if (tokensFile === null && issuer === null) return localAdministrator;
  const machines = tokensFile === null ? null : await StaticTokens.open(tokensFile, logger);
  const people = issuer && new SignedTokens(issuer, logger);
  return {
    required: true,
    async identify(request, connectionParams) {
      const token = presentedToken(request, connectionParams);
      if (token === null) {
        throw unauthenticated('This needs a token', 'Send it as Authorization: Bearer, or X-Auth-Token.');
      }
      const machine = machines?.identify(token);
      if (machine) return machine;
      if (people) return people.identify(token);
      throw unauthenticated('The token is not valid');
    },
    onChange: (listener) => machines?.onChange(listener) ?? (() => {}),
    close: () => machines?.close(),
  };
}

/** HTTP's status for what is refused before GraphQL has its say. */
export function statusOf(fault: Fault): 400 | 401 | 403 | 429 | 500 {
  if (fault.code === 'INVALID_ARGUMENT') return 400;
  if (fault.code === 'UNAUTHENTICATED') return 401;
  if (fault.code === 'TOO_MANY_REQUESTS') return 429;
  return fault.code === 'FORBIDDEN' ? 403 : 500;
}
