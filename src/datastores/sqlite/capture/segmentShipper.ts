/** Hands finished segments to the archive, one at a time, and insists: a full storage holds the log up, it loses none. */
import { Fault } from '../../../errors.js';
import { instant } from '../../../instant.js';
import type { LogSink } from '../../datastore.js';
import { WakeablePause } from '../../wakeablePause.js';
import { position } from '../formats/position.js';
import { BadSegment } from '../formats/segmentFormat.js';
import type { PieceIndex } from '../spool/pieceIndex.js';
import { discardSegment, type SealedSegment } from '../spool/spool.js';
import { sealedBlocks, sealedIndex } from '../spool/spooledSegments.js';

/** A transaction whose time is known less exactly than this opens a hole that no instant can be recovered into, µs. */
export const widestBracket = 5_000_000;
const firstRetryMs = 500;
const longestRetryMs = 30_000;

/** Thrown where waiting any longer makes no sense because the capture ends or is attached anew. */
class GivenUp extends Error {}

export class SegmentShipper {
  /** Why the archive did not take the last thing; null when all is well. */
  trouble: string | null = null;
  private giveUp = false;
  private readonly pause = new WakeablePause();
  private readonly refused = new Set<(error: Error) => void>();

  constructor(
    private readonly sink: LogSink,
    private readonly hangMs: number,
    private readonly troubleChanged: () => void,
  ) {}

  /** Does not return until the archive has the segment, unless it is damaged or the capture ends. */
  async ship(sealed: SealedSegment): Promise<'archived' | 'damaged' | 'kept'> {
    let damage: BadSegment | null = null;
    const notingDamage = async function* (index: PieceIndex) {
      try {
        yield* sealedBlocks(sealed, index);
      } catch (error) {
        if (error instanceof BadSegment) damage = error;
        throw error;
      }
    };
    try {
      await this.insist(async () => {
        try {
          const index = await sealedIndex(sealed);
          const { transactions } = index.head;
          const first = transactions.at(0);
          const { last } = transactions;
          let told = 0;
          for (let i = 0; i < transactions.length; i++) {
            const tLo = transactions.tLo(i);
            const tHi = transactions.tHi(i);
            if (tHi === told || tLo === 0 || tHi - tLo <= widestBracket) continue;
            told = tHi;
            await this.sink.unobserved(String(sealed.generation), instant(tLo), instant(tHi));
          }
          await this.sink.segment({
            after: position(sealed.generation, sealed.after),
            last: position(sealed.generation, sealed.last),
            transactions: transactions.length,
            // Times rise along a segment.
            firstCommitAt: first && instant(first.tHi),
            lastCommitAt: last && instant(last.tHi),
            coveredTo: instant(sealed.coveredTo),
            continuation: { ...sealed.continuation, sum: { ...sealed.continuation.sum } },
            packed: true,
            open: () => notingDamage(index),
          });
        } catch (error) {
          if (error instanceof BadSegment) damage = error;
          if (!damage) throw error;
        }
      });
    } catch (error) {
      if (error instanceof GivenUp) return 'kept';
      throw error;
    }
    // What cannot be removed now is known to be archived when a capture is attached next, and goes then.
    await discardSegment(sealed.file).catch(() => {});
    return damage ? 'damaged' : 'archived';
  }

  /** Tries again and again. @throws GivenUp */
  async insist(attempt: () => Promise<void>): Promise<void> {
    for (let wait = firstRetryMs; ; wait = Math.min(wait * 2, longestRetryMs)) {
      const hanging = setTimeout(() => this.setTrouble(this.hangMessage()), this.hangMs);
      try {
        await attempt();
        this.setTrouble(null);
        return;
      } catch (error) {
        const hint = error instanceof Fault && error.hint ? ` ${error.hint}` : '';
        this.setTrouble(`The archive does not take the log: ${(error as Error).message}.${hint}`);
        for (const tell of this.refused) tell(error as Error);
        if (this.giveUp) throw new GivenUp();
        await this.pause.wait(wait);
      } finally {
        clearTimeout(hanging);
      }
    }
  }

  /** Resolves when `shipped` does; rejects with the archive's refusal if it refuses once more before. */
  async untilShippedOrRefused(shipped: Promise<void>): Promise<void> {
    this.pause.wake();
    let tell: (error: Error) => void = () => {};
    const refusal = new Promise<never>((_resolve, reject) => {
      tell = reject;
    });
    this.refused.add(tell);
    try {
      await Promise.race([shipped, refusal]);
    } finally {
      this.refused.delete(tell);
    }
  }

  /** From now on a refusal is final: what is left stays in the spool for the next attachment. */
  lastAttempt(): void {
    this.giveUp = true;
    this.pause.wake();
  }

  resume(): void {
    this.giveUp = false;
  }

  private hangMessage(): string {
    return `The archive has not answered for ${this.hangMs / 1000} seconds. Look at its storage; capture waits for it.`;
  }

  private setTrouble(message: string | null): void {
    if (this.trouble === message) return;
    this.trouble = message;
    this.troubleChanged();
  }
}
