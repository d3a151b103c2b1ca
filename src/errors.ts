/**
 * One error class and one table of codes. A Fault is what a user is told: a stable code, a sentence, the next thing to
 * do, and whether trying again can help. It is the GraphQL error's extensions before a recovery exists and data on the
 * recovery afterwards. Never put a credential into any of its fields.
 */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** Every code with whether the same call can succeed later without being changed. */
const RETRYABLE = {
  INVALID_ARGUMENT: false,
  INVALID_POINT_IN_TIME: false,
  INSTANCE_NOT_FOUND: false,
  BACKUP_NOT_FOUND: false,
  RECOVERY_NOT_FOUND: false,
  TARGET_TOO_EARLY: false,
  TARGET_TOO_LATE: true,
  TARGET_IN_LOG_GAP: false,
  NO_BACKUP: false,
  INSTANCE_NOT_READY: true,
  INSTANCE_EXISTS: false,
  BACKUP_IN_USE: true,
  IDEMPOTENCY_CONFLICT: false,
  NOT_CANCELLABLE: false,
  QUOTA_EXCEEDED: true,
  TOO_MANY_REQUESTS: true,
  OPERATION_TOO_COSTLY: false,
  OPERATION_TIMED_OUT: true,
  UNAUTHENTICATED: false,
  FORBIDDEN: false,
  DATASTORE_NOT_SUPPORTED: false,
  DATASTORE_UNAVAILABLE: true,
  STORAGE_UNAVAILABLE: true,
  STORAGE_FULL: true,
  BACKUP_CORRUPT: false,
  LOG_CORRUPT: false,
  RECOVERY_INCOMPLETE: false,
  VERSION_MISMATCH: false,
  SERVICE_STOPPED: true,
  INTERNAL: false,
} as const;

/** How a log tells of a fault: only what there is no word for is the service's own. */
export function logLevelOf(code: string): 'error' | 'warn' {
  return code === 'INTERNAL' ? 'error' : 'warn';
}

export type FaultCode = keyof typeof RETRYABLE;
export const faultCodes = Object.keys(RETRYABLE) as FaultCode[];

export interface FaultOptions {
  /** A whole sentence naming the next thing to do. */
  hint?: string;
  /**
   * Facts a program can act on: `argument` for INVALID_ARGUMENT; `earliest`, `latest`, `nearestBefore`, `nearestAfter`
   * (instants as text) for refused targets; `object` for a stored object that is damaged or, as far as is known, the only
   * one that cannot be read; `limit` for TOO_MANY_REQUESTS, with
   * `retryAt` where time alone helps.
   */
  details?: JsonObject;
  /** What went wrong underneath; logged, never shown. */
  cause?: unknown;
}

/** A Fault as plain data: what is stored on a recovery and sent to clients. */
export interface FaultData {
  code: FaultCode;
  message: string;
  hint: string | null;
  retryable: boolean;
  details: JsonObject;
}

export class Fault extends Error {
  readonly code: FaultCode;
  readonly hint: string | null;
  readonly details: JsonObject;

  constructor(code: FaultCode, message: string, options: FaultOptions = {}) {
    super(message, { cause: options.cause });
    this.name = 'Fault';
    this.code = code;
    this.hint = options.hint ?? null;
    this.details = options.details ?? {};
  }

  get retryable(): boolean {
    return RETRYABLE[this.code];
  }

  toData(): FaultData {
    const { code, message, hint, retryable, details } = this;
    return { code, message, hint, retryable, details };
  }

  static fromData(data: FaultData): Fault {
    return new Fault(data.code, data.message, { hint: data.hint ?? undefined, details: data.details });
  }

  /** Anything that was thrown, as a Fault; what nobody foresaw becomes INTERNAL, with the original kept as the cause. */
  static from(thrown: unknown): Fault {
    if (thrown instanceof Fault) return thrown;
    return new Fault('INTERNAL', 'Something went wrong inside the service', {
      hint: 'Look for this moment in the service log, and report it.',
      cause: thrown,
    });
  }
}

/** INVALID_ARGUMENT naming the argument, as clients expect it in details.argument. */
export function invalidArgument(argument: string, message: string, hint?: string): Fault {
  return new Fault('INVALID_ARGUMENT', message, { hint, details: { argument } });
}
