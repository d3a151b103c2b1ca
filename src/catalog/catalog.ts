/** The catalog, and the only door to it: everybody reads through one connection, every change queues for the other. */
import type { DataSource, EntityManager } from 'typeorm';
import { Fault, invalidArgument } from '../errors.js';
import { backupChanges, backupReads } from './backupQueries.js';
import { factEntity } from './factEntity.js';
import { gate } from './gate.js';
import { instanceChanges, instanceReads } from './instanceQueries.js';
import { type CatalogLogger, closeConnections, openSqlite } from './openSqlite.js';
import { outboxChanges, outboxReads } from './outboxQueries.js';
import type { Catalog, CatalogReader, CatalogWriter } from './records.js';
import { recoveryChanges, recoveryReads } from './recoveryQueries.js';
import { type Sealer, sealer } from './seal.js';
import { segmentChanges, segmentReads } from './segmentQueries.js';
import { stretchChanges, stretchReads } from './stretchQueries.js';
import { usageReads } from './usageQueries.js';
import { closedFault, WriteDoor } from './writeDoor.js';

export interface CatalogOptions {
  /** Absolute path; created, with mode 0600, where it does not exist. */
  file: string;
  /** 32 bytes; what the catalog's secrets are sealed with. The same for the catalog's whole life. */
  secretKey: Buffer;
  logger?: CatalogLogger;
}

/**
 * Opens the catalog and brings its schema up to date.
 * @throws Fault INVALID_ARGUMENT (secretKey) where the key is not the one that this catalog was made with, and what
 * openSqlite throws
 */
export async function openCatalog({ file, secretKey, logger }: CatalogOptions): Promise<Catalog> {
  if (secretKey.length !== 32) throw invalidArgument('secretKey', 'The secret key is not 32 bytes long');
  const secrets = sealer(secretKey);
  const connections = await openSqlite(file, logger);
  try {
    await checkKey(connections.writer, secrets);
  } catch (error) {
    await closeConnections(connections);
    throw error;
  }

  const { writer, reader } = connections;
  const reads = gate(readerOver(reader.manager, secrets), 'overlapping', closedFault);
  const door = new WriteDoor(writer.createQueryRunner(), writerOver(writer.manager, secrets));
  let closing: Promise<void> | null = null;

  async function closeAll(): Promise<void> {
    await Promise.all([door.close(), reads.close()]);
    await closeConnections(connections);
  }

  return {
    read: reads.methods,
    write: (work) => door.write(work),
    close() {
      closing ??= closeAll();
      return closing;
    },
  };
}

function readerOver(manager: EntityManager, secrets: Sealer): CatalogReader {
  return {
    ...instanceReads(manager, secrets),
    ...backupReads(manager),
    ...stretchReads(manager),
    ...segmentReads(manager),
    ...recoveryReads(manager),
    ...outboxReads(manager),
    ...usageReads(manager),
  };
}

function writerOver(manager: EntityManager, secrets: Sealer): CatalogWriter {
  return {
    ...readerOver(manager, secrets),
    ...instanceChanges(manager, secrets),
    ...backupChanges(manager),
    ...stretchChanges(manager),
    ...segmentChanges(manager),
    ...recoveryChanges(manager),
    ...outboxChanges(manager),
  };
}

/** A known text, sealed when the catalog was made: with a wrong key the service must not start, let alone seal more. */
async function checkKey(writer: DataSource, secrets: Sealer): Promise<void> {
  const name = 'keyCheck';
  const stored = await writer.manager.findOneBy(factEntity, { name });
  if (stored === null) {
    await writer.manager.insert(factEntity, { name, value: secrets.seal(name, name) });
    return;
  }
  try {
    secrets.open(stored.value, name);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw invalidArgument(
      'secretKey',
      'The secret key is not the one that this catalog was made with',
      'Start the service with the key it was first started with; connection URIs cannot be read with another one.',
    );
  }
}
