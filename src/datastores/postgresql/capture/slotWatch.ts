/**
 * Looks at the service's slot now and then: whether the source's commits wait for the archive, and how much log the source
 * keeps for it. Where the archive takes none and that has grown too much, it lets go of the slot.
 */
import type { ServerAddress } from '../source/address.js';
import { dropSlot } from '../source/source.js';
import type { SlotState, SourceSession } from '../source/sourceSession.js';

const LOOK_MS = 5_000;

export interface SlotWatchOptions {
  address: ServerAddress;
  slot: string;
  session: SourceSession;
  /** Log that the source may have to keep while the archive takes none. */
  retainBytes: number;
  /** The archive takes nothing. */
  stuck(): boolean;
  /** What every look has seen; null where the source did not answer. */
  seen(state: SlotState | null): void;
  /** Ends the connection that uses the slot. */
  disconnect(): void;
  /** The slot is let go, or will be at the next look. */
  released(message: string): void;
}

export class SlotWatch {
  /** Bytes that the source keeps; null where that is not known. */
  retainedBytes: number | null = null;
  /** Why capture let go of the source's log; null while it holds on to it. */
  released: string | null = null;
  private stopped = false;
  private look: Promise<void> | null = null;
  private readonly looking: NodeJS.Timeout;

  constructor(private readonly options: SlotWatchOptions) {
    this.looking = setInterval(() => this.soon(), LOOK_MS);
  }

  /** Looks now, unless a look is under way. */
  soon(): void {
    this.look ??= this.lookAtSlot().finally(() => {
      this.look = null;
    });
  }

  /** Resolves when no look is under way any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearInterval(this.looking);
    await this.look;
  }

  /** Never rejects. */
  private async lookAtSlot(): Promise<void> {
    const { session, slot, retainBytes } = this.options;
    const seen = await session.slotState(slot).catch(() => null);
    if (this.stopped) return;
    this.retainedBytes = seen?.retainedBytes ?? null;
    this.options.seen(seen);
    if (this.options.stuck() && seen && seen.retainedBytes > retainBytes) await this.letGo();
  }

  /**
   * The source's own disk comes first. What was cut off already stays here, and capture goes on when the archive has taken
   * it: without a gap if the source still has the log behind it.
   */
  private async letGo(): Promise<void> {
    const { address, slot, retainBytes } = this.options;
    this.released =
      `The archive takes no log, and the source kept more than ${Math.ceil(retainBytes / 2 ** 20)} MiB for it, so ` +
      'capture let go of the source. It goes on by itself, with a new full backup if log was lost, once the archive takes log again';
    this.options.disconnect();
    await dropSlot(address, slot).then(
      () => {
        this.retainedBytes = 0;
      },
      // Tried again at the next look.
      () => {},
    );
    this.options.released(this.released);
  }
}
