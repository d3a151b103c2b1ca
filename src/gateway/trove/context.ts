/** Who is asking for what of which tenant, and the look-ups that more than one noun needs. */
import type { FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify';
import type { InstanceRecord, Page, RecoveryRecord } from '../../catalog/records.js';
import { Fault, type JsonObject } from '../../errors.js';
import type { Caller, Role, Services } from '../../services.js';
import { checkId, notFound } from '../arguments.js';
import { createContext, type GatewayContext } from '../context.js';
import { callerKey } from '../limits/callerLimits.js';
import { isExpected, type Place } from './shapes.js';

/** Each may do what those before it may. */
const ROLES: readonly Role[] = ['reader', 'operator', 'admin'];

export type TroveContext = GatewayContext & Place;

type Answer = (context: TroveContext, request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

/** Makes a handler of a function that wants to know who is asking, for callers with at least the role. */
export type Answering = (role: Role, answer: Answer) => RouteHandlerMethod;

/**
 * @param callerOf who was identified before the body was read
 * @param authenticated whether callers need a token, and so have a tenant of their own
 * @param patienceMs how long an answer may take
 */
export function answering(
  services: Services,
  callerOf: (request: FastifyRequest) => Caller,
  authenticated: boolean,
  patienceMs: number,
): Answering {
  return (role, answer) => async (request, reply) => {
    const caller = callerOf(request);
    const { tenantId: tenant } = request.params as { tenantId: string };
    // Without authentication nobody has a tenant of their own, and any text is another name of the one there is.
    if (authenticated) checkTenant(tenant, caller);
    checkRole(role, caller);
    const root = `${request.protocol}://${request.host}/v1.0/${encodeURIComponent(tenant)}`;
    const key = callerKey(caller, request.raw.socket.remoteAddress);
    const context = createContext(services, { requestId: request.id, caller, callerKey: key, patienceMs });
    return context.patience.wait(answer({ ...context, tenant, root }, request, reply));
  };
}

/** The tenant in the address only has to agree: what is answered is the caller's, whatever stands there. @throws Fault FORBIDDEN */
export function checkTenant(tenant: string, caller: Caller): void {
  if (tenant === caller.tenantId) return;
  throw new Fault('FORBIDDEN', 'The address names a tenant that is not yours', {
    hint: 'Use the tenant that your token belongs to.',
  });
}

/** The same roles as the operations of GraphQL have. @throws Fault FORBIDDEN */
export function checkRole(needed: Role, caller: Caller): void {
  if (ROLES.indexOf(caller.role) >= ROLES.indexOf(needed)) return;
  throw new Fault('FORBIDDEN', `This needs the role ${needed}`, {
    hint: `Your role here is ${caller.role}; ask an administrator of your tenant.`,
  });
}

export function idIn(request: FastifyRequest): string {
  return (request.params as { id: string }).id;
}

export interface FoundInstance {
  /** Deleted ones too; null while a recovery has not made it yet, or has undone it. */
  instance: InstanceRecord | null;
  /** Known where the id was a recovery's, or where the instance is still being recovered. */
  recovery: RecoveryRecord | null;
}

/**
 * An instance by its own id or by that of the recovery that makes it: a restore is answered before the new instance
 * has an id. @throws Fault INSTANCE_NOT_FOUND
 */
export async function findInstance({ load }: TroveContext, id: string): Promise<FoundInstance> {
  const instance = await load.instance(checkId('instance', id));
  if (instance) {
    const maker = instance.state === 'PROVISIONING' ? instance.createdByRecoveryId : null;
    return { instance, recovery: maker === null ? null : await load.recovery(maker) };
  }
  const recovery = await load.recovery(id);
  if (!recovery) throw notFound('instance', id);
  return { instance: recovery.targetId === null ? null : await load.instance(recovery.targetId), recovery };
}

/** For what needs a database that is or was there. @throws Fault INSTANCE_NOT_FOUND, INSTANCE_NOT_READY */
export async function existingInstance(context: TroveContext, id: string): Promise<InstanceRecord> {
  const { instance, recovery } = await findInstance(context, id);
  if (instance) return instance;
  if (recovery === null || !isExpected(recovery)) throw notFound('instance', id);
  throw new Fault('INSTANCE_NOT_READY', 'The instance is still to be recovered', { hint: 'Wait until it is ACTIVE.' });
}

/**
 * A page with the link to the next one, if there is one. `fetch` is asked for one row more than is shown.
 * @param query further parameters of the list's address
 */
export async function paged<Row extends { id: string }>(
  noun: string,
  address: string,
  page: Page,
  query: Record<string, string>,
  fetch: (page: Page) => Promise<Row[]>,
  shape: (row: Row) => JsonObject | Promise<JsonObject>,
): Promise<JsonObject> {
  const rows = await fetch({ ...page, first: page.first + 1 });
  const shown = rows.slice(0, page.first);
  const last = shown.at(-1);
  const body: JsonObject = { [noun]: await Promise.all(shown.map(shape)) };
  if (rows.length > shown.length && last) {
    const next = new URLSearchParams({ ...query, limit: String(page.first), marker: last.id });
    body.links = [{ rel: 'next', href: `${address}?${next}` }];
  }
  return body;
}
