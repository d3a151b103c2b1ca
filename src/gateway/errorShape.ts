/**
 * The one shape of every error that leaves the service: { code, hint, retryable, details, requestId } in its extensions.
 * Faults say what they are; mistakes in the document keep the codes that GraphQL servers commonly use; anything else is
 * INTERNAL and reveals nothing.
 */
import { GraphQLError, type GraphQLFormattedError, Kind } from 'graphql';
import { Fault, type JsonObject } from '../errors.js';
import { RequestScope } from '../requestScope.js';

/** Why a request was refused before any resolver ran, with what to do about it. Codes as Apollo Server spells them. */
const hints: Record<string, string> = {
  GRAPHQL_PARSE_FAILED: 'Correct the syntax of the document.',
  GRAPHQL_VALIDATION_FAILED: 'Compare the document with the schema.',
  BAD_USER_INPUT: 'Compare the variables with the types the document declares for them.',
  BAD_REQUEST: 'Send a POST with content-type application/json and a body of { query, variables, operationName }.',
  OPERATION_RESOLUTION_FAILURE: 'Name one of the operations in the document as operationName.',
  PERSISTED_QUERY_NOT_FOUND: 'Send the whole document as query, together with its hash.',
};

export interface ErrorExtensions {
  [name: string]: unknown;
  code: string;
  hint: string | null;
  retryable: boolean;
  details: JsonObject;
  /** Under which the service log has it; null for what belongs to no request. */
  requestId: string | null;
}

export interface PublicError extends GraphQLFormattedError {
  extensions: ErrorExtensions;
}

/** `formatted`: the error as the GraphQL library would show it, with the code that the server gave it, if any. */
export function publicError(
  formatted: GraphQLFormattedError,
  thrown: unknown,
  requestId: string | null = presentRequest(),
): PublicError {
  const { locations, path } = formatted;
  const place = { ...(locations && { locations }), ...(path && { path }) };
  const fault = faultWithin(thrown);
  if (fault) return { message: fault.message, ...place, extensions: extensionsOf(fault, requestId) };
  const code = codeOfMistake(formatted.extensions?.code, thrown);
  if (code !== null) {
    const extensions = { code, hint: hints[code] ?? null, retryable: false, details: {}, requestId };
    return { message: formatted.message, ...place, extensions };
  }
  const internal = Fault.from(thrown);
  return { message: internal.message, ...place, extensions: extensionsOf(internal, requestId) };
}

/** The same shape for what is refused outside GraphQL: `{ errors: [...] }`. */
export function publicBody(fault: Fault, requestId: string | null = presentRequest()): { errors: PublicError[] } {
  return { errors: [{ message: fault.message, extensions: extensionsOf(fault, requestId) }] };
}

/** Anything that was thrown while a request was answered. Fastify's own refusals carry a status and are the caller's. */
export function faultOf(thrown: unknown): { fault: Fault; status?: number } {
  if (thrown instanceof Fault) return { fault: thrown };
  const { statusCode, message } = thrown as { statusCode?: unknown; message?: unknown };
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return { fault: new Fault('INVALID_ARGUMENT', String(message)), status: statusCode };
  }
  return { fault: Fault.from(thrown) };
}

/**
 * What an error has to say to the operator alone: the stack of what nobody foresaw, or what lay under a Fault. Null for
 * a caller's mistake, whose text may repeat the caller's variables.
 */
export function causeToLog(shown: PublicError, thrown: unknown): unknown {
  const fault = faultWithin(thrown);
  if (fault) return fault.code === 'INTERNAL' ? (fault.cause ?? fault) : (fault.cause ?? null);
  return shown.extensions.code === 'INTERNAL' ? innermost(thrown) : null;
}

function extensionsOf(fault: Fault, requestId: string | null): ErrorExtensions {
  const { code, hint, retryable, details } = fault;
  return { code, hint, retryable, details, requestId };
}

function presentRequest(): string | null {
  return RequestScope.current?.requestId ?? null;
}

/** GraphQL libraries wrap what was thrown, some more than once. */
function* layers(thrown: unknown): Generator<unknown> {
  for (let layer = thrown; layer !== undefined && layer !== null; ) {
    yield layer;
    layer = layer instanceof GraphQLError ? layer.originalError : null;
  }
}

function faultWithin(thrown: unknown): Fault | null {
  for (const layer of layers(thrown)) if (layer instanceof Fault) return layer;
  return null;
}

function innermost(thrown: unknown): unknown {
  return [...layers(thrown)].at(-1);
}

/** Null for what is not the caller's mistake. */
function codeOfMistake(code: unknown, thrown: unknown): string | null {
  if (typeof code === 'string' && code in hints) return code;
  // Of very many mistakes in variables the last is that there are no more to be told, and points at nothing.
  if (thrown instanceof GraphQLError && !thrown.originalError && !thrown.nodes && !thrown.path) return 'BAD_USER_INPUT';
  // Coercing arguments and variables fails with an error that points at them; a failing resolver's points at its field.
  for (const layer of layers(thrown)) {
    const kind = layer instanceof GraphQLError ? layer.nodes?.[0]?.kind : undefined;
    if (kind !== undefined && kind !== Kind.FIELD && kind !== Kind.OPERATION_DEFINITION) return 'BAD_USER_INPUT';
  }
  return null;
}
