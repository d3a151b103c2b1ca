/** A request to capture a database whose log is restarted and whose segments are finished only where a test says so. */
import type { AttachRequest } from '../../src/datastores/sqlite/follower/captureTerms.js';

export function attachRequest(file: string, spool: string): AttachRequest {
  const size = 1 << 30;
  return {
    file,
    spool,
    archived: null,
    tuning: {
      ...{ pollMs: 1000, pauseMs: 2, busyPauseMs: 8, sealBytes: size, sealEveryMs: 0, sealAgeMs: 60_000 },
      ...{ restartBytes: size, idleRestartBytes: size, heldTellMs: 60_000, retainBytes: size, hangMs: 1000 },
    },
  };
}
