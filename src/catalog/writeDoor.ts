/**
 * The one way in for changes. TypeORM's SQLite driver has a single connection, on which a change made during somebody
 * else's transaction would be acknowledged and then lost with that one's rollback; therefore every write queues here.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { QueryRunner } from 'typeorm';
import { Fault } from '../errors.js';
import { gate } from './gate.js';
import type { CatalogWriter } from './records.js';

export class WriteDoor {
  readonly #runner: QueryRunner;
  readonly #writer: CatalogWriter;
  /** Set for everything that `work` calls, however deep: what is true in there while its transaction is open. */
  readonly #inside = new AsyncLocalStorage<{ open: boolean }>();
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(runner: QueryRunner, writer: CatalogWriter) {
    this.#runner = runner;
    this.#writer = writer;
  }

  /** @throws Fault INTERNAL when called from inside another write's work: waiting for its own turn would never end. */
  write<T>(work: (writer: CatalogWriter) => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(closedFault());
    if (this.#inside.getStore()?.open) {
      return Promise.reject(
        new Fault('INTERNAL', 'A write to the catalog was started inside another one', {
          hint: 'Pass the writer on instead of opening a second transaction.',
        }),
      );
    }
    const result = this.#last.then(() => this.#transaction(work));
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Refuses later writes; resolves when those already accepted are done. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#last;
  }

  async #transaction<T>(work: (writer: CatalogWriter) => Promise<T>): Promise<T> {
    // IMMEDIATE takes SQLite's write lock now, so that no statement of `work` can find it taken.
    await this.#runner.query('BEGIN IMMEDIATE');
    const scope = { open: true };
    const calls = gate(this.#writer, 'one-by-one', endedFault);
    try {
      const answer = await this.#inside.run(scope, () => work(calls.methods));
      const forgotten = await calls.close();
      if (forgotten > 0) {
        throw new Fault('INTERNAL', `A transaction ended before ${forgotten} of its calls did; nothing was changed`, {
          hint: 'Wait for every call of the writer inside the transaction.',
        });
      }
      await this.#runner.query('COMMIT');
      return answer;
    } catch (error) {
      await calls.close();
      // SQLite itself has rolled back after some errors, and then refuses; if it has not, the next BEGIN fails loudly.
      await this.#runner.query('ROLLBACK').catch(() => undefined);
      throw fullDisk(error);
    } finally {
      scope.open = false;
    }
  }
}

/** A catalog that cannot grow is told as what it is; everything else as it was. */
function fullDisk(error: unknown): unknown {
  if (!(error instanceof Error && 'code' in error && error.code === 'SQLITE_FULL')) return error;
  return new Fault('STORAGE_FULL', 'The disk of the catalog is full', {
    hint: 'Free space under PITR_HOME, then try again.',
    cause: error,
  });
}

export function closedFault(): Fault {
  return new Fault('INTERNAL', 'The catalog is closed', { hint: 'Try again when the service has started.' });
}

function endedFault(): Fault {
  return new Fault('INTERNAL', 'A writer was used after its transaction had ended', {
    hint: 'Keep the writer inside the transaction that it was given to.',
  });
}
