/** An OpenID Connect issuer on loopback: real keys, real HTTP, and the ways in which one can misbehave. */
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';

export interface Issuer {
  /** Its `iss`. */
  url: string;
  audience: string;
  /** How often its keys were fetched. */
  readonly fetches: number;
  /** A token that is good for a minute, with these claims instead of or besides the usual ones; undefined leaves one out. */
  token(claims?: JWTPayload, header?: { alg?: string; kid?: string }): Promise<string>;
  /** The present public key as its JWK's JSON: what an attacker can know. */
  publicKey(): Promise<string>;
  /** From now on it signs with a new key; `keep` leaves the old one among the published. */
  rotate(keep: boolean): Promise<void>;
  /** `down` refuses to answer, `hangs` never does, `lies` answers with what are no keys. */
  behave(how: 'well' | 'down' | 'hangs' | 'lies'): void;
}

interface Key {
  kid: string;
  privateKey: CryptoKey;
  publicKey: CryptoKey;
}

const ALGORITHM = 'ES256';

export async function startIssuer(t: Pick<TestContext, 'after'>): Promise<Issuer> {
  let behaviour: Parameters<Issuer['behave']>[0] = 'well';
  let fetches = 0;
  let made = 0;
  const newKey = async (): Promise<Key> => {
    made += 1;
    return { kid: `key-${made}`, ...(await generateKeyPair(ALGORITHM)) };
  };
  let current = await newKey();
  let published = [current];

  async function answer(path: string, response: ServerResponse): Promise<void> {
    if (behaviour === 'hangs') return;
    if (behaviour === 'down') {
      response.destroy();
      return;
    }
    if (path === '/.well-known/openid-configuration') {
      response.end(JSON.stringify({ issuer: url, jwks_uri: `${url}/jwks` }));
      return;
    }
    fetches += 1;
    const keys = await Promise.all(
      published.map(async ({ kid, publicKey }) => ({ ...(await exportJWK(publicKey)), kid, use: 'sig' })),
    );
    response.end(behaviour === 'lies' ? '"no keys"' : JSON.stringify({ keys }));
  }

  const server = createServer((request, response) => void answer(request.url ?? '', response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const audience = 'pitr-gateway';

  return {
    url,
    audience,
    get fetches() {
      return fetches;
    },
    async token(claims = {}, header = {}) {
      const now = Math.floor(Date.now() / 1000);
      const usual = { iss: url, aud: audience, sub: 'somebody', exp: now + 60, tenant: 'shop', role: 'reader' };
      const payload = Object.entries({ ...usual, ...claims }).filter(([, value]) => value !== undefined);
      return new SignJWT(Object.fromEntries(payload))
        .setProtectedHeader({ alg: ALGORITHM, kid: current.kid, ...header })
        .sign(current.privateKey);
    },
    publicKey: async () => JSON.stringify(await exportJWK(current.publicKey)),
    async rotate(keep) {
      current = await newKey();
      published = keep ? [...published, current] : [current];
    },
    behave(how) {
      behaviour = how;
    },
  };
}
