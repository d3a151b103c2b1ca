/**
 * Reads and writes of files that a capture follows or fills, which are in the system's cache: what is little is done at
 * once, because the way to another thread and back would cost more than that.
 */
import { readSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { writeWhole, writeWholeSync } from '../../durable.js';

const littleBytes = 256 << 10;

/** Answers with how many bytes there were. */
export async function readAt(file: FileHandle, bytes: Buffer, at: number): Promise<number> {
  if (bytes.length <= littleBytes) return readSync(file.fd, bytes, 0, bytes.length, at);
  return (await file.read(bytes, 0, bytes.length, at)).bytesRead;
}

/** All of the bytes. */
export async function writeAt(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  if (bytes.length <= littleBytes) writeWholeSync(file.fd, bytes, at);
  else await writeWhole(file, bytes, at);
}
