/** One response as a stream of server-sent events: no faster than its reader, alive while it is read, ended from either side. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';

/** A comment is sent this often, so that nothing on the way takes the stream for dead, in milliseconds. */
const KEEP_ALIVE_MS = 12_000;
const COMPLETE = 'event: complete\ndata:\n\n';

export class EventStream {
  private readonly ended = new AbortController();
  private readonly timer: NodeJS.Timeout;
  private unread = false;

  constructor(private readonly response: ServerResponse) {
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
    // Some browsers wait for the first byte.
    response.write(':\n\n');
    response.once('close', () => this.ended.abort());
    response.on('error', () => this.ended.abort());
    this.timer = setInterval(() => this.keepAlive(), KEEP_ALIVE_MS);
  }

  /**
   * Sends each result and then the completion. Resolves when all is sent or the stream was ended. The results are left as
   * soon as their reader is gone, and have to end then.
   */
  async send(results: AsyncIterator<unknown>): Promise<void> {
    const leave = () => void results.return?.()?.catch(() => {});
    this.ended.signal.addEventListener('abort', leave);
    if (this.ended.signal.aborted) leave();
    try {
      for (let next = await results.next(); !next.done; next = await results.next()) await this.write(next.value);
      this.end(null, COMPLETE);
    } finally {
      clearInterval(this.timer);
    }
  }

  /** Ends it from this side, with a last result where there is one. */
  end(last: unknown, completion = last === null ? '' : COMPLETE): void {
    if (this.ended.signal.aborted) return;
    if (last !== null) this.response.write(eventOf(last));
    if (completion !== '') this.response.write(completion);
    this.response.end();
    this.ended.abort();
  }

  private async write(result: unknown): Promise<void> {
    if (this.ended.signal.aborted) return;
    if (this.response.write(eventOf(result))) return;
    await once(this.response, 'drain', { signal: this.ended.signal }).catch(() => {});
  }

  /** A reader that takes nothing from one time to the next is gone. */
  private keepAlive(): void {
    if (this.response.writableNeedDrain) {
      if (this.unread) this.response.destroy();
      this.unread = true;
      return;
    }
    this.unread = false;
    this.response.write(':\n\n');
  }
}

function eventOf(result: unknown): string {
  return `event: next\ndata: ${JSON.stringify(result)}\n\n`;
}
