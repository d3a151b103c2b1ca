/** Whether a server's log goes on where the archive ends, or a new stretch has to begin, and why. */
import type { ResumePoint, StretchStart } from '../../datastore.js';
import { formatLsn } from '../formats/lsn.js';
import { WalFormatError } from '../formats/walRecord.js';
import type { SystemIdentity } from '../source/replicationStream.js';
import { sqlState } from '../source/session.js';
import { DivergedError, type Progress } from './walBuffer.js';

/** After as many failures at the same damage, capture goes on behind it. */
const DAMAGE_ATTEMPTS = 3;

export class Breaks {
  /** Why the next connection begins a new stretch. */
  private broken: string | null = null;
  private damage = { said: '', times: 0 };

  /** @param archived what could be read of `resume` */
  constructor(resume: ResumePoint | null, archived: Progress | null) {
    if (resume && !archived) this.broken = 'The archive does not say where its log ends';
  }

  /** Takes any failure and keeps in mind those after which the log cannot go on. */
  note(error: unknown): void {
    const said = error instanceof Error ? error.message : String(error);
    if (error instanceof DivergedError) {
      this.broken = `The server’s log is not the archived one: ${said}`;
    } else if (error instanceof WalFormatError) {
      this.damage = { said, times: said === this.damage.said ? this.damage.times + 1 : 1 };
      if (this.damage.times >= DAMAGE_ATTEMPTS) this.broken = `The server’s log is damaged: ${said}`;
    } else if (sqlState(error) === '58P01' || said.includes('has already been removed')) {
      this.broken = 'The server removed log that was not archived yet';
    }
  }

  /** A new stretch has begun. */
  mended(): void {
    this.broken = null;
  }

  /** Why a new stretch begins on this server; null where it goes on with the archived one. */
  between(archived: Progress | null, server: SystemIdentity): Pick<StretchStart, 'because' | 'reason'> | null {
    if (this.broken !== null) return { because: 'LOG_GAP', reason: this.broken };
    if (!archived) return { because: 'FIRST_BACKUP', reason: 'Capture began' };
    if (archived.systemId !== server.systemId) {
      return { because: 'LOG_GAP', reason: 'Another database cluster answers at this address' };
    }
    if (archived.timeline !== server.timeline) {
      const reason = `The server went from timeline ${archived.timeline} to ${server.timeline}`;
      return { because: 'TIMELINE_CHANGE', reason };
    }
    if (server.flushed < archived.end) {
      const reason = `The server’s log ends at ${formatLsn(server.flushed)}, before the archive does`;
      return { because: 'LOG_GAP', reason };
    }
    return null;
  }
}
