/** One line per operation, over HTTP and WebSocket alike: who, what, how long, which errors; never variables or headers. */
import type { Logger } from 'pino';
import { type Fault, logLevelOf } from '../errors.js';
import type { Caller } from '../services.js';
import { causeToLog, type PublicError } from './errorShape.js';

/** Names come from the caller; a document may hold a very long one. */
const LONGEST_NAME = 128;

export interface OperationFacts {
  requestId: string;
  /** Null where nobody was let in yet. */
  caller: Caller | null;
  via: 'http' | 'websocket' | 'events' | 'rest';
  /** The document's name for it; for REST the pattern of the address. */
  operation: string | null | undefined;
  /** query, mutation or subscription, undefined where the document could not be read; for REST the method. */
  kind: string | undefined;
  /** From performance.now(), in milliseconds. */
  startedAt: number;
  codes: readonly unknown[];
}

export function logOperation(logger: Logger, facts: OperationFacts): void {
  const { requestId, via, kind, codes } = facts;
  const { tenantId: tenant, role, name: by } = facts.caller ?? {};
  const operation = facts.operation?.slice(0, LONGEST_NAME) ?? null;
  const ms = Math.round((performance.now() - facts.startedAt) * 1000) / 1000;
  logger.info(
    { requestId, tenant, role, by, via, kind, operation, ms, ...(codes.length > 0 && { codes }) },
    'operation',
  );
}

/** Why a request or connection was turned away, with the check that failed; tokens are in neither. */
export function refused({ code, message, cause }: Fault): object {
  return { code, reason: message, ...(cause instanceof Error && { because: cause.message }) };
}

/** The stack of what nobody foresaw, and of what lay under a Fault. */
export function logCause(logger: Logger, requestId: string, shown: PublicError, thrown: unknown): void {
  const cause = causeToLog(shown, thrown);
  if (cause === null) return;
  const { code } = shown.extensions;
  logger[logLevelOf(code)]({ requestId, code, path: shown.path?.join('.'), err: described(cause) }, 'operation failed');
}

/**
 * An error and its causes as their stacks alone. Errors of drivers and libraries carry more: the statement's parameters,
 * the document with its literals; credentials can be in both.
 */
export function described(error: unknown, depth = 4): unknown {
  if (!(error instanceof Error)) return { type: typeof error };
  const { name, message, stack, cause } = error;
  const under = cause === undefined || depth === 0 ? undefined : described(cause, depth - 1);
  return { type: name, message, stack, ...(under !== undefined && { cause: under }) };
}
