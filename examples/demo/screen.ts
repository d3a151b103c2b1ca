/** What the demo prints: a progress bar on a terminal, plain lines anywhere else. */
import type { WriteStream } from 'node:tty';
import type { Progress } from './client.js';

const BAR_WIDTH = 32;

export class Screen {
  private barShown = false;
  private lastLine = '';

  constructor(private readonly out: NodeJS.WriteStream & Partial<WriteStream>) {}

  chapter(title: string): void {
    this.line(this.out.isTTY ? `\n\u001b[1m${title}\u001b[0m` : `\n== ${title}`);
  }

  line(text: string): void {
    this.out.write(`${text}\n`);
  }

  table(rows: [string, string][]): void {
    const width = Math.max(...rows.map(([name]) => name.length));
    for (const [name, value] of rows) this.line(`  ${name.padEnd(width)}  ${value}`);
  }

  progress({ state, step, percent, bytesDone, bytesTotal, message }: Progress): void {
    const of = bytesTotal === null ? '' : ` of ${this.bytes(bytesTotal)}`;
    const facts = `${percent.toFixed(0).padStart(3)} %  ${this.bytes(bytesDone)}${of}  ${step ?? state}`;
    if (this.out.isTTY) {
      const full = Math.round((percent / 100) * BAR_WIDTH);
      this.out.write(`\r\u001b[K[${'█'.repeat(full)}${'·'.repeat(BAR_WIDTH - full)}] ${facts}  ${message ?? ''}`);
      this.barShown = true;
    } else if (facts !== this.lastLine) {
      this.lastLine = facts;
      this.line(`${facts}  ${message ?? ''}`);
    }
  }

  endProgress(): void {
    if (this.barShown) this.out.write('\n');
    this.barShown = false;
  }

  bytes(count: number): string {
    if (count < 1_000) return `${count} B`;
    if (count < 1_000_000) return `${(count / 1_000).toFixed(1)} kB`;
    return `${(count / 1_000_000).toFixed(1)} MB`;
  }
}
