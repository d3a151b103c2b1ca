/**
 * Free memory as a measurement should find it. A virtual machine may give what is free back to its host, within seconds and
 * in no order that could be foreseen, and to fill it again costs up to three times as much (Linux: free page reporting).
 */
import { freemem } from 'node:os';
import { runProgram } from './program.js';

const PROGRAM = `
const all = [];
for (let left = Number(process.argv[1]); left > 0; left -= 2 ** 28) all.push(Buffer.alloc(2 ** 28, 1));
`;

/** Fills `bytes` of what is free, at most half of it, and lets go of it: whoever comes next within a second or two finds it. */
export async function fillFreeMemory(bytes: number): Promise<void> {
  await runProgram(process.execPath, ['--eval', PROGRAM, String(Math.min(bytes, freemem() / 2))]);
}
