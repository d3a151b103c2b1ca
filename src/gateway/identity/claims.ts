/** What a tenant and a role look like, in tokens of either kind. Pure. */
import { type Role, roles } from '../../services.js';

/** Also a directory name and part of an address: nothing that either could misread. */
const TENANT = /^[A-Za-z0-9_][A-Za-z0-9._:-]{0,127}$/;

export function isTenantId(value: unknown): value is string {
  return typeof value === 'string' && TENANT.test(value);
}

/** A role's name, or the highest role in a list of names, some of which may belong to others; null where there is none. */
export function roleOf(value: unknown): Role | null {
  const names = Array.isArray(value) ? value : [value];
  return roles.findLast((role) => names.includes(role)) ?? null;
}

/** By its whole name, which may hold dots (`https://example.com/tenant`), or else along them (`realm_access.roles`). */
export function claimAt(claims: Readonly<Record<string, unknown>>, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name];
  let value: unknown = claims;
  for (const part of name.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string, unknown>)[part];
  }
  return value;
}
