/** Other programs that a benchmark runs: waited for, and never outliving it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A program that goes on until it is stopped. */
export function start(command: string, args: string[]): ChildProcess {
  return keep(spawn(command, args, { stdio: 'ignore' }));
}

/** Ends with the benchmark at the latest. */
export function keep(child: ChildProcess): ChildProcess {
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

/** Runs a program to its end; answers with what it printed. @throws Error with what it said, where it fails */
export async function runProgram(command: string, args: string[]): Promise<string> {
  const child = keep(spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }));
  let printed = '';
  let said = '';
  child.stdout?.on('data', (chunk) => {
    printed += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    said = `${said}${chunk}`.slice(-2000);
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${command} ended with ${code}: ${said}`);
  return printed;
}

export async function stop(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}
