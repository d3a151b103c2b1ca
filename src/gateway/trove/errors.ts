/** Every refusal in the shape in which OpenStack Trove sends it: `{"itemNotFound": {"code": 404, "message": "…"}}`. */
import type { Fault, FaultCode, JsonObject } from '../../errors.js';

/** A missing code does not compile. */
const statuses: Record<FaultCode, number> = {
  INVALID_ARGUMENT: 400,
  INVALID_POINT_IN_TIME: 400,
  INSTANCE_NOT_FOUND: 404,
  BACKUP_NOT_FOUND: 404,
  RECOVERY_NOT_FOUND: 404,
  TARGET_TOO_EARLY: 422,
  TARGET_TOO_LATE: 422,
  TARGET_IN_LOG_GAP: 422,
  NO_BACKUP: 422,
  INSTANCE_NOT_READY: 422,
  INSTANCE_EXISTS: 409,
  BACKUP_IN_USE: 409,
  IDEMPOTENCY_CONFLICT: 409,
  NOT_CANCELLABLE: 409,
  QUOTA_EXCEEDED: 413,
  TOO_MANY_REQUESTS: 429,
  OPERATION_TOO_COSTLY: 400,
  OPERATION_TIMED_OUT: 504,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  DATASTORE_NOT_SUPPORTED: 501,
  DATASTORE_UNAVAILABLE: 503,
  STORAGE_UNAVAILABLE: 503,
  STORAGE_FULL: 503,
  BACKUP_CORRUPT: 422,
  LOG_CORRUPT: 422,
  RECOVERY_INCOMPLETE: 500,
  VERSION_MISMATCH: 422,
  SERVICE_STOPPED: 503,
  INTERNAL: 500,
};

/** Trove's names, of which it has one per status. */
const names: Record<number, string> = {
  400: 'badRequest',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'itemNotFound',
  405: 'badMethod',
  409: 'conflict',
  413: 'overLimit',
  415: 'badMediaType',
  422: 'unprocessableEntity',
  429: 'overLimit',
  500: 'instanceFault',
  501: 'notImplemented',
  503: 'serviceUnavailable',
  504: 'serviceUnavailable',
};

export interface TroveError {
  status: number;
  body: JsonObject;
}

/** @param status where HTTP itself has a better one than the code: a body too large, a media type not known */
export function troveError(fault: Fault, requestId: string, status = statuses[fault.code]): TroveError {
  const { code, retryable, details } = fault;
  const name = names[status] ?? (status < 500 ? 'badRequest' : 'instanceFault');
  // Trove has no place for a hint or for facts: its clients show the message, and programs may read `fault`.
  const facts = { code, retryable, details, requestId };
  return { status, body: { [name]: { code: status, message: sentence(fault), fault: facts } } };
}

/** What happened and what to do about it, in one text. */
export function sentence({ message, hint }: Pick<Fault, 'message' | 'hint'>): string {
  if (hint === null) return message;
  return /[.!?]$/.test(message) ? `${message} ${hint}` : `${message}. ${hint}`;
}
