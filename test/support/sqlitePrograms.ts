/** Starts the programs of sqliteProgram.ts, and takes them down with the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('./sqliteProgram.js', import.meta.url));

export interface Program {
  child: ChildProcess;
  /** What it printed, when it ended well; rejects otherwise. */
  done: Promise<string>;
}

export function start(t: Pick<TestContext, 'after'>, mode: string, ...words: string[]): Program {
  return startProgram(t, process.execPath, [program, mode, ...words]);
}

/** Any other program. */
export function startProgram(t: Pick<TestContext, 'after'>, command: string, words: readonly string[]): Program {
  const child = spawn(command, words, { stdio: ['pipe', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const done = once(child, 'close').then(([code, signal]) => {
    if (code === 0) return out;
    throw new Error(`${command} ${words.slice(0, 2).join(' ')} ended with ${code ?? signal}: ${err}`);
  });
  done.catch(() => {});
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'close');
  });
  return { child, done };
}

/** Runs a program to its end and reads what it printed. */
export async function ask<T>(t: Pick<TestContext, 'after'>, mode: string, ...words: string[]): Promise<T> {
  const out = await start(t, mode, ...words).done;
  return (out === '' ? null : JSON.parse(out)) as T;
}

/** Waits until a condition holds, for `seconds` at most. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, seconds = 30): Promise<void> {
  for (const deadline = Date.now() + seconds * 1000; !(await condition()); ) {
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
