/** What a process and everything that it starts cost: processor time, and memory without PostgreSQL's own. */
import { readFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import type { Service } from '../../test/support/service.js';

const TICKS_PER_SECOND = 100;

export interface Cost {
  seconds: number;
  /** Of the processor, user and system; of what was started only what has ended by then. */
  processor: number;
  /** Of the machine, over the last minute. */
  load: number;
}

/** How long `work` took, and what the process of this id spent meanwhile, or else whatever this one started. */
export async function costOf<T>(pid: number | null, work: () => Promise<T>): Promise<[Cost, T]> {
  const spentBefore = processorSeconds(pid);
  const begun = performance.now();
  const result = await work();
  const seconds = (performance.now() - begun) / 1000;
  return [{ seconds, processor: processorSeconds(pid) - spentBefore, load: loadavg()[0] ?? 0 }, result];
}

/** proc(5): utime, stime, cutime and cstime, behind the name, which may hold anything. */
function processorSeconds(pid: number | null): number {
  const fields = readFileSync(`/proc/${pid ?? 'self'}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return fields.slice(pid === null ? 13 : 11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
}

/** The greatest memory until the answer is called for: the service's and that of all below it but PostgreSQL. */
export function sampleMemory(service: Service): () => Promise<number> {
  let most = 0;
  const sample = () => {
    most = Math.max(most, proportionalBytes(service.pid ?? 0));
  };
  const timer = setInterval(sample, 250);
  return async () => {
    clearInterval(timer);
    sample();
    return most;
  };
}

function proportionalBytes(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    if (/^Name:\s+postgres$/m.test(status)) return 0;
    // Proportional: a child that was forked and does not run its own program yet shares all with its parent.
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
    const below = children.reduce((sum, child) => sum + proportionalBytes(Number(child)), 0);
    // After its children's, which share with it what they were counted with.
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    return below + Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
  } catch {
    return 0; // It has just ended.
  }
}

/** The middle, the least and the greatest. */
export function figures(all: number[], digits = 1): Record<string, string> {
  const sorted = [...all].sort((a, b) => a - b);
  const [least, middle, most] = [sorted[0], sorted[Math.floor(sorted.length / 2)], sorted.at(-1)];
  return Object.fromEntries(
    Object.entries({ median: middle, least, most }).map(([name, value]) => [name, (value ?? 0).toFixed(digits)]),
  );
}
