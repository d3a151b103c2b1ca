/** What the service and the engine process say to each other; plain data, sent as JSON. */
import type { FaultData } from '../../../errors.js';
import type { AttachRequest, FenceReply, SessionEvent } from '../follower/captureTerms.js';

/** What an open database says of itself. */
export interface DatabaseFacts {
  version: string;
  journalMode: string;
  pageSize: number;
  dbPages: number;
}

/** Every call with its arguments and its answer. */
export interface EngineCalls {
  /** The capture's events go to `listener`. A session of the same capture that still ends is waited for. */
  attach: { arguments: { capture: string; listener: number } & AttachRequest; answer: null };
  detach: { arguments: { capture: string }; answer: null };
  fence: { arguments: { capture: string; restart: boolean }; answer: FenceReply };
  abandon: { arguments: { capture: string; reason: string }; answer: null };
  /** Reads no more log for a while, and loses none. */
  hold: { arguments: { capture: string }; answer: null };
  /** Lets go of the source, and takes it up again. What the log loses meanwhile is a gap. */
  letGo: { arguments: { capture: string; reason: string }; answer: null };
  takeUp: { arguments: { capture: string }; answer: null };
  /** The answer to `sync`: that is done, or will not be. */
  synced: { arguments: { request: number }; answer: null };
  /** Nothing but a sign of life. */
  ping: { arguments: Record<string, never>; answer: null };
  version: { arguments: Record<string, never>; answer: string };
  useWal: { arguments: { file: string; create: boolean }; answer: DatabaseFacts };
  examineCopy: { arguments: { file: string }; answer: DatabaseFacts };
}

export type CallName = keyof EngineCalls;

export type ToEngine = { [K in CallName]: { id: number; call: K; arguments: EngineCalls[K]['arguments'] } }[CallName];

export type FromEngine =
  | { id: number; answer: unknown }
  | { id: number; fault: FaultData; cause: string }
  | { listener: number; event: SessionEvent }
  /** See fileSync; answered by `synced`. */
  | { request: number; sync: string };
