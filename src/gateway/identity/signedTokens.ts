/**
 * Tokens for people: JWTs of one OpenID Connect issuer, checked here with its public keys (RFC 7519, RFC 8725). Only
 * asymmetric signatures count, so that neither `none` nor a public key used as a shared secret can pass.
 */
import { createHash } from 'node:crypto';
import { errors, type JWTPayload, jwtVerify } from 'jose';
import type { Logger } from 'pino';
import { Fault } from '../../errors.js';
import type { Identity } from './authenticator.js';
import { claimAt, isTenantId, roleOf } from './claims.js';
import { unauthenticated } from './credentials.js';
import { KeySet, type KeySetOptions } from './keySet.js';

export interface IssuerSettings extends KeySetOptions {
  /** Exactly as the tokens' `iss` has it, with or without the slash at its end. */
  issuer: string;
  /** One of these must be in `aud`. */
  audience: string[];
  tenantClaim: string;
  roleClaim: string;
  /** How far the two clocks may be apart, in seconds; 0 or more. */
  clockToleranceSeconds: number;
  /** Good tokens that need not be checked again while they and the keys last; 1,000 unless given. */
  remember?: number;
}

const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
];

/** A signature costs more than the rest of a small request, and a client sends the same token again and again. */
const REMEMBER = 1_000;

export class SignedTokens {
  private readonly keys: KeySet;
  /** Good tokens by their SHA-256, the oldest first, as checked with the keys of one fetch. */
  private readonly remembered = new Map<string, Identity>();
  private rememberedFor = 0;

  constructor(
    private readonly settings: IssuerSettings,
    logger: Logger,
  ) {
    this.keys = new KeySet(settings, logger);
    this.keys.prefetch();
  }

  /** @throws Fault UNAUTHENTICATED, or FORBIDDEN for a good token without a tenant or a role */
  async identify(token: string): Promise<Identity> {
    const { generation } = this.keys;
    if (this.rememberedFor !== generation) this.remembered.clear();
    this.rememberedFor = generation;
    const sha256 = createHash('sha256').update(token).digest('base64');
    const known = this.remembered.get(sha256);
    if (known?.isCurrent()) {
      this.keys.refreshIfOld();
      return known;
    }
    const identity = await this.check(token);
    // Keys that were fetched meanwhile may not include the one that it was checked with.
    if (this.keys.generation === this.rememberedFor) this.remembered.set(sha256, identity);
    const [oldest] = this.remembered.keys();
    if (this.remembered.size > (this.settings.remember ?? REMEMBER)) this.remembered.delete(oldest ?? '');
    return identity;
  }

  private async check(token: string): Promise<Identity> {
    const { tenantClaim, roleClaim, clockToleranceSeconds } = this.settings;
    const claims = await this.verify(token);
    const tenantId = claimAt(claims, tenantClaim);
    const role = roleOf(claimAt(claims, roleClaim));
    if (!isTenantId(tenantId) || role === null) {
      throw new Fault('FORBIDDEN', `The token gives no ${role === null ? 'role' : 'tenant'} here`, {
        hint: `Have the issuer put the tenant into ${tenantClaim} and reader, operator or admin into ${roleClaim}.`,
      });
    }
    // jwtVerify has refused a token without `exp`.
    const expiresAt = (Number(claims.exp) + clockToleranceSeconds) * 1000;
    const caller = { tenantId, role, ...(claims.sub !== undefined && { name: claims.sub }) };
    return { caller, expiresAt, isCurrent: () => Date.now() < expiresAt };
  }

  private async verify(token: string): Promise<JWTPayload> {
    const { issuer, audience, clockToleranceSeconds } = this.settings;
    try {
      const { payload } = await jwtVerify(token, (header) => this.keys.keyFor(header), {
        issuer,
        audience,
        algorithms: ALGORITHMS,
        clockTolerance: clockToleranceSeconds,
        requiredClaims: ['exp'],
      });
      return payload;
    } catch (thrown) {
      if (thrown instanceof Fault) throw thrown;
      if (thrown instanceof errors.JWTExpired) throw unauthenticated('The token has expired');
      // Which check it was helps its forger more than its owner: that is for the log.
      throw unauthenticated('The token is not valid', undefined, thrown);
    }
  }
}
