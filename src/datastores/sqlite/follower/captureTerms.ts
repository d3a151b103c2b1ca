/** What a capture in the engine process is told, and what it tells; plain data, sent as JSON. */
import type { Continuation } from '../formats/continuation.js';
import type { SealedSegment } from '../spool/spool.js';

export interface CaptureTuning {
  /** How often to look when nothing is heard of the log, ms. */
  pollMs: number;
  /** The shortest time between two looks, ms. */
  pauseMs: number;
  /** The same at a database that is so busy that single writes are not listened to, ms; its times are as much less exact. */
  busyPauseMs: number;
  /** A segment is finished at this size, or at four times as much where that was reached sooner than in sealEveryMs … */
  sealBytes: number;
  sealEveryMs: number;
  /** … or this long after its first transaction, ms. */
  sealAgeMs: number;
  /** The WAL is restarted when it has grown past this … */
  restartBytes: number;
  /** … or past this while nobody writes. */
  idleRestartBytes: number;
  /** A foreign reader that keeps the WAL from being restarted for this long is told, ms. */
  heldTellMs: number;
  /**
   * Captured log that waits may grow to this. Then no more is read while the archive takes what waits, until the unread
   * log has grown as much; where the archive takes nothing, capture lets go of the source at once.
   */
  retainBytes: number;
  /** An archive, or the engine process, that has not answered for this long is called hanging, ms. */
  hangMs: number;
}

/** What a capture does with its source: reads its log; lets it wait where it is; lets go of it. */
export type Pace = 'follows' | 'is held' | 'let go';

/** Where the archive ends. */
export interface ArchiveEnd {
  generation: number;
  ordinal: number;
  coveredTo: number;
  continuation: Continuation | null;
}

export interface AttachRequest {
  file: string;
  spool: string;
  archived: ArchiveEnd | null;
  tuning: CaptureTuning;
}

/** A place in the captured log, when everything up to it is in sealed segments. */
export interface FenceReply {
  generation: number;
  ordinal: number;
  coveredTo: number;
  /** The greatest time given so far; no later transaction will get one that is not greater. */
  axis: number;
  dbPages: number;
  pageSize: number;
  /** Everything up to here was in the database file when the WAL was last looked at. */
  copiedUpTo: number;
}

export type SessionEvent =
  /** Which database is followed from now on, see InstanceFacts. */
  | { type: 'identified'; identity: string }
  | { type: 'stretch'; generation: number; first: boolean; reason: string; at: number }
  | { type: 'sealed'; sealed: SealedSegment }
  | { type: 'covered'; generation: number; ordinal: number; coveredTo: number }
  | { type: 'health'; message: string | null }
  /** Something that the operator should know although capture is well. */
  | { type: 'notice'; message: string | null };

/** Whom a capture in the engine process tells and asks. */
export interface CaptureHost {
  emit: (event: SessionEvent) => void;
  /** Makes lasting what was written to the database file; resolves also where that could not be done, see fileSync. */
  sync: (file: string) => Promise<void>;
}
