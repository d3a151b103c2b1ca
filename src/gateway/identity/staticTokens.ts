/**
 * Tokens for machines, from a file that knows only their hashes. One JSON object per line; empty lines and those that
 * begin with # are left out:
 *
 *   {"name":"nightly","tenant":"shop","role":"operator","sha256":"<64 hex digits>"}
 *
 * A token is 256 random bits, so one round of SHA-256 hides it as well as a slow hash would. The file is looked at every
 * second: a token that was added works, one that was removed ends, without a restart.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import { Fault, invalidArgument } from '../../errors.js';
import type { Caller } from '../../services.js';
import type { Identity } from './authenticator.js';
import { isTenantId, roleOf } from './claims.js';

const LOOK_EVERY_MS = 1_000;

interface Entry {
  caller: Caller;
  sha256: Buffer;
}

export class StaticTokens {
  private readonly changes = new EventEmitter().setMaxListeners(0);
  private readonly timer: NodeJS.Timeout;
  private looking = false;

  private constructor(
    private readonly file: string,
    private text: string,
    private entries: Entry[],
    private readonly logger: Logger,
  ) {
    this.timer = setInterval(() => void this.look(), LOOK_EVERY_MS).unref();
  }

  /** @throws Fault INVALID_ARGUMENT (tokensFile) */
  static async open(file: string, logger: Logger): Promise<StaticTokens> {
    const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      throw invalidArgument('tokensFile', `${file} can't be read: ${error.code}`);
    });
    return new StaticTokens(file, text, parseTokens(text), logger);
  }

  /** Null for a token that is not in the file. */
  identify(token: string): Identity | null {
    const entry = this.find(createHash('sha256').update(token).digest());
    if (!entry) return null;
    const { caller, sha256 } = entry;
    return {
      caller,
      expiresAt: null,
      isCurrent: () => {
        const now = this.find(sha256)?.caller;
        return now?.tenantId === caller.tenantId && now.role === caller.role;
      },
    };
  }

  onChange(listener: () => void): () => void {
    this.changes.on('change', listener);
    return () => this.changes.off('change', listener);
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** Compares with every entry, in a time that says nothing about how far a comparison came. */
  private find(sha256: Buffer): Entry | undefined {
    let found: Entry | undefined;
    for (const entry of this.entries) if (timingSafeEqual(entry.sha256, sha256)) found = entry;
    return found;
  }

  private async look(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    try {
      // A file that was taken away takes all its tokens along.
      const text = await readFile(this.file, 'utf8').catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return '';
        throw error;
      });
      if (text === this.text) return;
      this.text = text;
      this.entries = parseTokens(text);
      this.logger.info({ file: this.file, tokens: this.entries.length }, 'tokens read anew');
      this.changes.emit('change');
    } catch (error) {
      // Half an edit must not lock everybody out: the tokens that were good stay so until the file can be read.
      this.logger.error({ file: this.file, reason: (error as Error).message }, 'tokens not read; the old ones stay');
    } finally {
      this.looking = false;
    }
  }
}

/** @throws Fault INVALID_ARGUMENT (tokensFile) naming the line; never showing it, for it may hold a token by mistake */
export function parseTokens(text: string): Entry[] {
  const entries: Entry[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    try {
      entries.push(parseLine(line));
    } catch (thrown) {
      const why = thrown instanceof Fault ? thrown.message : 'it is no JSON object';
      throw invalidArgument('tokensFile', `Line ${index + 1} of the tokens file is not usable: ${why}`);
    }
  }
  return entries;
}

function parseLine(line: string): Entry {
  const { name, tenant, role, sha256 } = JSON.parse(line) as Record<string, unknown>;
  if (typeof name !== 'string' || name === '') throw invalidArgument('name', 'name is missing');
  if (!isTenantId(tenant)) throw invalidArgument('tenant', 'tenant has to be 1 to 128 of A-Z a-z 0-9 . _ : -');
  const known = typeof role === 'string' ? roleOf(role) : null;
  if (known === null) throw invalidArgument('role', 'role has to be reader, operator or admin');
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) {
    throw invalidArgument('sha256', 'sha256 has to be 64 hex digits in lower case');
  }
  return { caller: { tenantId: tenant, role: known, name }, sha256: Buffer.from(sha256, 'hex') };
}
