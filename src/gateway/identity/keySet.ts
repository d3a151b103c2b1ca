/**
 * The public keys of the issuer: fetched, kept, and fetched anew when a token names one that is not there. While the
 * issuer can't be reached the keys that are here go on working. Every fetch is bounded in time and size, and however many
 * tokens with invented keys arrive, there is at most one fetch in a while.
 */
import { createLocalJWKSet, errors, type JWSHeaderParameters, type LocalJWKSet } from 'jose';
import type { Logger } from 'pino';
import { unauthenticated } from './credentials.js';

export interface KeySetOptions {
  issuer: string;
  /** Null to find it in the issuer's /.well-known/openid-configuration. */
  jwksUri: string | null;
  /** The shortest time between two fetches, in milliseconds; 10,000 unless given. */
  fetchAtMostEveryMs?: number;
  /** The age at which keys are fetched anew, in milliseconds; ten minutes unless given. */
  refreshAfterMs?: number;
  /** How long the issuer may take to answer, in milliseconds; 5,000 unless given. */
  fetchTimeoutMs?: number;
}

const FETCH_AT_MOST_EVERY_MS = 10_000;
/** Keys older than this are fetched anew beside their use, so that one which the issuer withdrew does not live on. */
const REFRESH_AFTER_MS = 10 * 60_000;
const FETCH_TIMEOUT_MS = 5_000;
const MOST_BYTES = 256 * 1024;

export class KeySet {
  private keys: LocalJWKSet | null = null;
  /** Rises with every fetch: what was checked with older keys has to be checked again. */
  generation = 0;
  private fetchedMs = Number.NEGATIVE_INFINITY;
  private triedMs = Number.NEGATIVE_INFINITY;
  private fetching: Promise<void> | null = null;

  constructor(
    private readonly options: KeySetOptions,
    private readonly logger: Logger,
  ) {}

  /** The first token need not wait, and an issuer that can't be reached is in the log from the start. */
  prefetch(): void {
    void this.refresh();
  }

  /** Beside whatever is going on; nobody waits. */
  refreshIfOld(): void {
    const { refreshAfterMs = REFRESH_AFTER_MS } = this.options;
    if (this.keys !== null && performance.now() - this.fetchedMs > refreshAfterMs) void this.refresh();
  }

  /** @throws Fault UNAUTHENTICATED for a key that the issuer does not have, or can't be asked about; JOSEError */
  async keyFor(header: JWSHeaderParameters): ReturnType<LocalJWKSet> {
    if (this.keys === null) await this.refresh();
    this.refreshIfOld();
    try {
      return await this.find(header);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
    }
    // The issuer may have a new key.
    await this.refresh();
    return this.find(header);
  }

  private find(header: JWSHeaderParameters): ReturnType<LocalJWKSet> {
    if (this.keys === null) throw unauthenticated('The token cannot be checked now', 'Try again in a little while.');
    return this.keys(header);
  }

  /** Never rejects: what it could not do stands in the log. */
  private refresh(): Promise<void> {
    if (this.fetching) return this.fetching;
    const { issuer, fetchAtMostEveryMs = FETCH_AT_MOST_EVERY_MS } = this.options;
    if (performance.now() - this.triedMs < fetchAtMostEveryMs) return Promise.resolve();
    this.triedMs = performance.now();
    this.fetching = this.fetch()
      .catch((error: Error) => {
        const reason = error.cause instanceof Error ? error.cause.message : error.message;
        this.logger.warn({ issuer, reason, keys: this.keys !== null }, "the issuer's keys could not be fetched");
      })
      .finally(() => {
        this.fetching = null;
      });
    return this.fetching;
  }

  private async fetch(): Promise<void> {
    const signal = AbortSignal.timeout(this.options.fetchTimeoutMs ?? FETCH_TIMEOUT_MS);
    const document = await fetchJson(this.options.jwksUri ?? (await this.discover(signal)), signal);
    const keys = createLocalJWKSet(document as unknown as Parameters<typeof createLocalJWKSet>[0]);
    this.keys = keys;
    this.generation += 1;
    this.fetchedMs = performance.now();
  }

  /** OpenID Connect Discovery 1.0, section 4: the document must be about the very issuer that was asked for. */
  private async discover(signal: AbortSignal): Promise<string> {
    const { issuer } = this.options;
    const address = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
    const { issuer: named, jwks_uri: jwksUri } = await fetchJson(address, signal);
    if (named !== issuer) throw new Error(`${address} is about another issuer`);
    if (typeof jwksUri !== 'string') throw new Error(`${address} names no jwks_uri`);
    return jwksUri;
  }
}

async function fetchJson(address: string, signal: AbortSignal): Promise<Record<string, unknown>> {
  const response = await fetch(address, { signal, redirect: 'error', headers: { accept: 'application/json' } });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`${address} answered ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > MOST_BYTES) throw new Error(`${address} answered more than ${MOST_BYTES} bytes`);
    chunks.push(chunk);
  }
  const document: unknown = JSON.parse(Buffer.concat(chunks).toString());
  if (typeof document !== 'object' || document === null) throw new Error(`${address} answered no JSON object`);
  return document as Record<string, unknown>;
}
