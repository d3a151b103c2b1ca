/**
 * Documents that are sent once, or never, and named by the hex SHA-256 of their text after that: automatic persisted queries as
 * Apollo's clients and gateways speak them, and a list of the only operations that are executed.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { GraphQLError, parse } from 'graphql';
import { Fault, invalidArgument } from '../../errors.js';

/** What is kept of documents that clients have sent: the newest, so many and so long in all. */
const MOST_KEPT = 1_000;
const MOST_KEPT_LENGTH = 8 * 2 ** 20;

const HASH = /^[0-9a-f]{64}$/;

/** What of a request says which document it means. */
export interface NamedDocument {
  query?: unknown;
  extensions?: unknown;
}

export class PersistedOperations {
  /** By tenant and hash, the longest unused first: a document may hold what is nobody else's business. */
  private readonly kept = new Map<string, string>();
  private keptLength = 0;

  constructor(private readonly safelist: ReadonlyMap<string, string> | null) {}

  /**
   * The text of the document; undefined where the request names none, which is somebody else's to refuse.
   * @throws GraphQLError PERSISTED_QUERY_NOT_FOUND or BAD_REQUEST, in Apollo's words, by which clients know what to do
   * @throws Fault FORBIDDEN for what is not on the list
   */
  textOf(tenantId: string, { query, extensions }: NamedDocument): string | undefined {
    const text = typeof query === 'string' && query !== '' ? query : undefined;
    const hash = hashIn(extensions);
    if (this.safelist) return this.listed(hash ?? (text === undefined ? null : sha256(text)));
    if (hash === null) return text;
    const key = `${hash} ${tenantId}`;
    if (text === undefined) return this.recall(key) ?? fail('PersistedQueryNotFound', 'PERSISTED_QUERY_NOT_FOUND', 200);
    if (sha256(text) !== hash) fail('provided sha does not match query', 'BAD_REQUEST', 400);
    this.keep(key, text);
    return text;
  }

  private listed(hash: string | null): string | undefined {
    if (hash === null) return undefined;
    const text = this.safelist?.get(hash);
    if (text !== undefined) return text;
    throw new Fault('FORBIDDEN', 'This operation is not on the list of those that are executed here', {
      hint: "Have it added to the service's list of operations.",
    });
  }

  private recall(key: string): string | undefined {
    const text = this.kept.get(key);
    if (text === undefined) return undefined;
    this.kept.delete(key);
    this.kept.set(key, text);
    return text;
  }

  private keep(key: string, text: string): void {
    if (this.recall(key) !== undefined || text.length > MOST_KEPT_LENGTH / 10) return;
    this.kept.set(key, text);
    this.keptLength += text.length;
    for (const [oldest, { length }] of this.kept) {
      if (this.kept.size <= MOST_KEPT && this.keptLength <= MOST_KEPT_LENGTH) break;
      this.kept.delete(oldest);
      this.keptLength -= length;
    }
  }
}

/**
 * Reads a list of operations: Apollo's persisted query manifest, or an object from the hash to the document, as Relay and
 * GraphQL Code Generator write it.
 * @throws Fault INVALID_ARGUMENT (operationsFile)
 */
export async function readSafelist(file: string): Promise<ReadonlyMap<string, string>> {
  const wrong = (what: string) => invalidArgument('operationsFile', `${file} ${what}`);
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw wrong(`can't be read: ${error.code}`);
  });
  let documents: unknown[];
  try {
    const content: unknown = JSON.parse(text);
    const { operations } = content as { operations?: unknown };
    documents = Array.isArray(operations)
      ? operations.map((operation) => (operation as { body?: unknown } | null)?.body)
      : Object.values(content as object);
  } catch {
    throw wrong('is not a JSON object');
  }
  const list = new Map<string, string>();
  for (const document of documents) {
    if (typeof document !== 'string') throw wrong('holds an operation without a document');
    try {
      parse(document);
    } catch (error) {
      throw wrong(`holds a document that is not GraphQL: ${(error as Error).message}`);
    }
    // By our own hash: whatever name the file gives it, another document must not pass for it.
    list.set(sha256(document), document);
  }
  return list;
}

function hashIn(extensions: unknown): string | null {
  if (typeof extensions !== 'object' || extensions === null) return null;
  const { persistedQuery } = extensions as { persistedQuery?: { version?: unknown; sha256Hash?: unknown } | null };
  if (persistedQuery === undefined || persistedQuery === null) return null;
  const { version, sha256Hash } = persistedQuery;
  if (version !== 1 || typeof sha256Hash !== 'string' || !HASH.test(sha256Hash)) {
    return fail('Unsupported persisted query version', 'BAD_REQUEST', 400);
  }
  return sha256Hash;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function fail(message: string, code: string, status: number): never {
  throw new GraphQLError(message, { extensions: { code, http: { status } } });
}
