/**
 * Documents that Apollo Server has read and checked, so that the next request for one is spared that: the newest, bounded by
 * their texts. Its own cache is bounded by the JSON of what was read, which says little about the memory that this takes.
 */
import type { DocumentNode } from 'graphql';

/** Characters of all texts together; what is read of one takes about a hundred times as many bytes. */
const MOST_TEXT = 200_000;
/** A text longer than this is not worth the place of so many others. */
const LONGEST = MOST_TEXT / 10;

export class DocumentCache {
  /** The longest unused first. */
  private readonly documents = new Map<string, DocumentNode>();
  private length = 0;

  async get(key: string): Promise<DocumentNode | undefined> {
    const document = this.documents.get(key);
    if (!document) return undefined;
    this.documents.delete(key);
    this.documents.set(key, document);
    return document;
  }

  async set(key: string, document: DocumentNode): Promise<void> {
    if (this.documents.has(key) || lengthOf(document) > LONGEST) return;
    this.documents.set(key, document);
    this.length += lengthOf(document);
    for (const oldest of this.documents.keys()) {
      if (this.length <= MOST_TEXT) return;
      await this.delete(oldest);
    }
  }

  async delete(key: string): Promise<boolean> {
    const document = this.documents.get(key);
    if (document) this.length -= lengthOf(document);
    return this.documents.delete(key);
  }
}

function lengthOf({ loc }: DocumentNode): number {
  return loc?.source.body.length ?? LONGEST;
}
