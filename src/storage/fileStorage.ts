/**
 * Storage in a directory of this machine. An object is written under a temporary name, made durable, and only then
 * given its own name: a crash at any moment leaves it whole or absent.
 */
import { randomUUID } from 'node:crypto';
import type { Dir, Stats } from 'node:fs';
import { type FileHandle, mkdir, open, opendir, readdir, rename, rm, rmdir, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { addAbortSignal } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { invalidArgument } from '../errors.js';
import { abortable } from './abortable.js';
import { makeDirectories, syncDirectory, writeDurably } from './durableFile.js';
import { fileFault, nameClash, readingFault, systemCode } from './fileFaults.js';
import { FileReadable } from './fileReadable.js';
import { checkKey } from './objectKey.js';
import type { ObjectInfo, ObjectKey, ObjectStream, Storage } from './storage.js';

/** Holds what is still being written. It also tells our directory from the empty place where it should be mounted. */
const INCOMING = '.incoming';
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;

/** How often a put makes its directory again after a remove() has pruned it; each needs a remove in just that moment. */
const PLACING_ATTEMPTS = 50;

/** Beyond this many directories known to be durable they are forgotten, and found durable again one by one. */
const MAX_KNOWN_DIRECTORIES = 10_000;

export class FileStorage implements Storage {
  readonly uri: string;
  private readonly incoming: string;
  /** Directories whose entry in their parent has reached the disk. */
  private readonly durable = new Set<string>();
  private prunings = 0;

  private constructor(private readonly root: string) {
    this.uri = pathToFileURL(root).href;
    this.incoming = path.join(root, INCOMING);
  }

  /**
   * Makes the directory where it is not there yet.
   * @param dir absolute path
   * @throws Fault STORAGE_UNAVAILABLE, STORAGE_FULL
   */
  static async open(dir: string): Promise<FileStorage> {
    if (!path.isAbsolute(dir)) throw invalidArgument('dir', `${JSON.stringify(dir)} is not an absolute path`);
    const storage = new FileStorage(path.resolve(dir));
    await storage.doing('Preparing the storage directory', async () => {
      const made = await mkdir(storage.incoming, { recursive: true, mode: DIRECTORY_MODE });
      // Every entry on the way to the first new directory has to be on disk before an object can be.
      for (let at = storage.incoming; made && at.length >= made.length; at = path.dirname(at)) {
        await syncDirectory(path.dirname(at));
      }
    });
    return storage;
  }

  async put(key: ObjectKey, body: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<ObjectInfo> {
    const target = this.fileOf(key);
    signal?.throwIfAborted();
    const temporary = path.join(this.incoming, randomUUID());
    try {
      return await this.doing(`Storing ${key}`, async () => {
        const bytes = await writeDurably(temporary, FILE_MODE, sourceOf(body, signal));
        signal?.throwIfAborted();
        await this.place(temporary, target, key);
        return { key, bytes };
      });
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {}); // sweep() gets what cannot be removed now
      throw error instanceof SourceFailure ? error.cause : error;
    }
  }

  async get(key: ObjectKey, signal?: AbortSignal): Promise<ObjectStream | null> {
    const file = this.fileOf(key);
    signal?.throwIfAborted();
    const asFault = (thrown: unknown) => readingFault(thrown, key, this.root);
    try {
      const handle = await this.orAbsent(open(file, 'r'));
      if (!handle) return null;
      if (!(await isObject(handle))) return null;
      const stream = new FileReadable(handle, asFault);
      return signal ? addAbortSignal(signal, stream) : stream;
    } catch (error) {
      throw asFault(error);
    }
  }

  fileOf(key: ObjectKey): string {
    checkKey(key);
    if (key === INCOMING || key.startsWith(`${INCOMING}/`)) {
      throw invalidArgument('key', `${INCOMING} is kept for objects still being written`, 'Use another first segment.');
    }
    return path.join(this.root, key);
  }

  async stat(key: ObjectKey): Promise<ObjectInfo | null> {
    const file = this.fileOf(key);
    return this.doing(`Looking for ${key}`, async () => {
      const found: Stats | null = await this.orAbsent(stat(file));
      return found?.isFile() ? { key, bytes: found.size } : null;
    });
  }

  async remove(key: ObjectKey): Promise<void> {
    const file = this.fileOf(key);
    await this.doing(`Removing ${key}`, async () => {
      const found: Stats | null = await this.orAbsent(stat(file));
      if (found?.isFile()) {
        await this.orAbsent(unlink(file));
        await this.orAbsent(syncDirectory(path.dirname(file)));
      }
      await this.prune(path.dirname(file));
    });
  }

  async *list(prefix: ObjectKey): AsyncGenerator<ObjectInfo, void, undefined> {
    const dir = this.fileOf(prefix);
    try {
      yield* this.walk(prefix, dir);
    } catch (error) {
      throw fileFault(error, `Listing ${prefix}`, this.root);
    }
  }

  async sweep(): Promise<void> {
    await this.doing('Clearing away interrupted writes', async () => {
      for (const name of await readdir(this.incoming)) {
        await rm(path.join(this.incoming, name), { recursive: true, force: true });
      }
    });
  }

  private async *walk(prefix: ObjectKey, dir: string): AsyncGenerator<ObjectInfo, void, undefined> {
    const entries: Dir | null = await this.orAbsent(opendir(dir));
    if (!entries) return;
    for await (const entry of entries) {
      const at = path.join(dir, entry.name);
      const key = `${prefix}/${entry.name}`;
      if (entry.isDirectory()) yield* this.walk(key, at);
      else if (entry.isFile()) {
        const found: Stats | null = await this.orAbsent(stat(at));
        if (found) yield { key, bytes: found.size };
      }
    }
  }

  /** Gives a finished file its name and makes that durable. */
  private async place(temporary: string, target: string, key: ObjectKey): Promise<void> {
    const dir = path.dirname(target);
    const { ino } = await stat(temporary);
    try {
      for (let attempt = 1; ; attempt += 1) {
        try {
          await rename(temporary, target);
          break;
        } catch (error) {
          if (systemCode(error) !== 'ENOENT' || attempt === PLACING_ATTEMPTS) throw error;
        }
        await makeDirectories(this.root, dir, DIRECTORY_MODE);
      }
    } catch (error) {
      throw nameClash(error, key);
    }
    try {
      await this.orAbsent(syncDirectory(dir));
      await this.makeDurable(dir);
    } catch (error) {
      // A later put of the same object may have taken its place meanwhile.
      if ((await stat(target).catch(() => null))?.ino === ino) await unlink(target).catch(() => {});
      throw error;
    }
  }

  /** To be called when the object is in place: a directory that a remove() pruned before is no longer known then. */
  private async makeDurable(dir: string): Promise<void> {
    const unsure: string[] = [];
    for (let at = dir; at !== this.root && !this.durable.has(at); at = path.dirname(at)) unsure.unshift(at);
    // From the top, so that a known directory has only known ones above it.
    for (const at of unsure) {
      const { prunings } = this;
      await this.orAbsent(syncDirectory(path.dirname(at)));
      if (prunings !== this.prunings) continue; // it may have been another directory of this name
      if (this.durable.size >= MAX_KNOWN_DIRECTORIES) this.durable.clear();
      this.durable.add(at);
    }
  }

  /** Removes the directories that have become empty. A put that comes between finds its directory gone and makes it again. */
  private async prune(from: string): Promise<void> {
    for (let at = from; at !== this.root; at = path.dirname(at)) {
      try {
        await rmdir(at);
      } catch (error) {
        const code = systemCode(error);
        if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR') return;
        if (code !== 'ENOENT') throw error;
      }
      this.durable.delete(at);
      this.prunings += 1;
    }
  }

  /** Null where the thing is not there, as long as the storage itself is: an unmounted disk is no proof of absence. */
  private async orAbsent<T>(looking: Promise<T>): Promise<T | null> {
    try {
      return await looking;
    } catch (error) {
      const code = systemCode(error);
      if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
      await stat(this.incoming);
      return null;
    }
  }

  private async doing<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw fileFault(error, what, this.root);
    }
  }
}

/** Tells an error of the bytes' source from one of this storage, which may look the same. */
class SourceFailure extends Error {}

async function* sourceOf(body: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined) {
  try {
    yield* abortable(body, signal);
  } catch (cause) {
    throw new SourceFailure('', { cause });
  }
}

/** A handle of anything but a file is closed again. */
async function isObject(handle: FileHandle): Promise<boolean> {
  let file = false;
  try {
    file = (await handle.stat()).isFile();
  } finally {
    if (!file) await handle.close();
  }
  return file;
}
