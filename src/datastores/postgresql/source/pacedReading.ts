/**
 * How often a server that streams is read: to the end of what it has sent now and then, and not for each commit of its
 * own, unless somebody waits for it.
 */
import type { Socket } from 'node:net';

/**
 * What arrives meanwhile waits in this machine's memory, where no end of the server reaches it, and is read at once; a
 * commit is archived a second later anyway. Four reads a second take half the processor time of twenty.
 */
const REST_MS = 250;

export class PacedReading {
  private resting: NodeJS.Timeout | null = null;
  private draining: NodeJS.Immediate | null = null;
  /** Something came since draining was looked at. */
  private flowing = false;
  /** Somebody waits for each commit. */
  private prompt = false;
  private roomless = false;
  private closed = false;

  constructor(private readonly socket: Socket) {}

  /** Whoever takes what is read has no room. */
  get held(): boolean {
    return this.roomless;
  }

  setPrompt(prompt: boolean): void {
    this.prompt = prompt;
    if (prompt) this.endRest();
  }

  hold(): void {
    this.roomless = true;
    this.socket.pause();
  }

  letGo(): void {
    this.roomless = false;
    if (this.resting === null) this.socket.resume();
  }

  /** Something was read: rests as soon as nothing more is there. */
  came(): void {
    this.flowing = true;
    if (!this.prompt && !this.closed && this.draining === null && this.resting === null) this.drain();
  }

  close(): void {
    this.closed = true;
    if (this.draining) clearImmediate(this.draining);
    this.draining = null;
    this.endRest();
  }

  /** Between two immediates the event loop reads what has arrived. */
  private drain(): void {
    this.flowing = false;
    this.draining = setImmediate(() => {
      this.draining = null;
      if (this.prompt) return;
      if (this.flowing) this.drain();
      else this.rest();
    });
  }

  private rest(): void {
    this.socket.pause();
    this.resting = setTimeout(() => this.endRest(), REST_MS);
  }

  private endRest(): void {
    if (this.resting === null) return;
    clearTimeout(this.resting);
    this.resting = null;
    if (!this.roomless) this.socket.resume();
  }
}
