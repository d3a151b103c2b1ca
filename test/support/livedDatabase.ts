/**
 * A database in a service's random life: its file's lines of commits, what the service promised of it and when, and every
 * recovery with what it held, to be judged by the programs' own logs.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { RecoveryAnswer, Target } from './apiCalls.js';
import type { FileLife } from './sqliteFileLife.js';
import { assertContentsExact, type Content, cutOf, type History, microsOf } from './sqliteOracle.js';

/** A quiet moment in which everything was archived: from then on it has to stay recoverable, and mean the same. */
export interface Promised {
  position: string;
  history: History;
  /** The transaction that it ends with. */
  n: number;
  /** The instant that means it, microseconds; null while the clock was wrong. */
  at: number | null;
}

interface Held {
  recovery: RecoveryAnswer;
  target: Target;
  content: Content;
  /** What it must hold exactly, where that is known. */
  n: number | null;
}

export class LivedDatabase {
  readonly promised: Promised[] = [];
  readonly held: Held[] = [];
  /** Moments between which log may have been lost, microseconds; the last one may still be open. */
  private readonly dark: { from: number; to: number }[] = [];
  /** Whether anything happened since the last promise of an instant that log can be lost by. */
  private disturbed = true;
  /** The line of commits of each generation of log that was the newest at a quiet moment. */
  private readonly ofGeneration = new Map<string, History>();

  constructor(
    readonly id: string,
    readonly life: FileLife,
  ) {}

  get isDisturbed(): boolean {
    return this.disturbed;
  }

  disturb(): void {
    this.disturbed = true;
  }

  promise(position: string, n: number, at: number | null): void {
    const { history } = this.life;
    this.ofGeneration.set(generationOf(position), history);
    if (at !== null) {
      const before = this.instants().at(-1);
      if (this.disturbed && before) this.dark.push({ from: before.at, to: at });
      if (!this.disturbed && before) {
        const gap = 'a new generation, but nothing happened that log can be lost by';
        assert.equal(generationOf(position), generationOf(before.position), gap);
      }
      this.disturbed = false;
    }
    this.promised.push({ position, history, n, at });
  }

  /** The promises that an instant means. */
  instants(): (Promised & { at: number })[] {
    return this.promised.flatMap((each) => (each.at === null ? [] : [{ ...each, at: each.at }]));
  }

  /** An instant between the first and the last that were promised; null where there are none. */
  anyInstant(random: () => number): number | null {
    const instants = this.instants();
    const [first, last] = [instants[0]?.at, instants.at(-1)?.at];
    return first && last ? first + Math.floor(random() * (last - first)) : null;
  }

  /** An instant at which log may have been lost: to be refused, or else exact. Null where there was none. */
  anyDarkInstant(random: () => number): number | null {
    const { from, to } = this.dark[Math.floor(random() * this.dark.length)] ?? {};
    return from && to ? from + Math.floor(random() * (to - from)) : null;
  }

  /** A position between two promises of one generation. */
  anyPosition(random: () => number): string | null {
    const to = this.promised[Math.floor(random() * this.promised.length)];
    if (!to) return null;
    const generation = generationOf(to.position);
    const from = this.promised.find(({ position }) => generationOf(position) === generation);
    const [first, last] = [from, to].map((each) => Number(each?.position.split('/')[1])) as [number, number];
    return `${generation}/${first + Math.floor(random() * (last - first + 1))}`;
  }

  /** A refusal is honest only of an instant between two promises between which log may have been lost. */
  assertRefusable(at: number, code: string | null): void {
    assert.equal(code, 'TARGET_IN_LOG_GAP', `${at} was refused`);
    const dark = this.dark.some(({ from, to }) => from < at && at < to);
    assert.ok(dark, `${at} was refused, but nothing happened then that log can be lost by`);
  }

  /** Answers how many recoveries could be judged. */
  async assertExact(t: TestContext, timed: (begun: number) => boolean): Promise<number> {
    const judged = this.held.flatMap(({ recovery, target, content, n }) => {
      const cut = cutOf(recovery);
      const history = this.ofGeneration.get(generationOf(cut.position.text));
      // A generation that began and ended between two quiet moments, over a file that was just being exchanged.
      if (!history) return [];
      if (n !== null) assert.equal(content.n, n, `${JSON.stringify(target)} holds ${content.n} instead of ${n}`);
      return [{ cut, at: target.pointInTime ? microsOf(target.pointInTime) : null, history, content }];
    });
    await assertContentsExact(t, judged, timed);
    return judged.length;
  }
}

export function generationOf(position: string): string {
  return position.split('/')[0] ?? '';
}
