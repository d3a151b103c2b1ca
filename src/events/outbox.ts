/** Where happenings are written down, in the transaction that makes them true, until they are delivered. */
import { uuidv7 } from 'uuidv7';
import type { CatalogWriter } from '../catalog/records.js';
import { type Clock, formatInstant } from '../instant.js';
import type { Happening } from './happenings.js';

export interface Outbox {
  /** Inside the transaction whose outcome it tells. */
  note(writer: CatalogWriter, happening: Happening): Promise<void>;
}

/** Where nobody wants to be told. */
export const noOutbox: Outbox = { async note() {} };

export interface OutboxOptions {
  /** The `source` of every event: a URI that tells this service from others. */
  source: string;
  clock: Clock;
  /** Something was noted; its transaction may not be committed yet. */
  onNoted(): void;
}

export function catalogOutbox({ source, clock, onNoted }: OutboxOptions): Outbox {
  return {
    async note(writer, happening) {
      const id = uuidv7();
      const { tenantId, type } = happening;
      const now = clock();
      await writer.insertOutbox({
        id,
        tenantId,
        type,
        body: cloudEvent(id, source, happening),
        state: 'WAITING',
        attempts: 0,
        dueAt: now,
        lastError: null,
        createdAt: now,
      });
      onNoted();
    },
  };
}

/** CloudEvents 1.0, JSON event format. */
export function cloudEvent(id: string, source: string, { type, subject, at, data }: Happening): string {
  return JSON.stringify({
    specversion: '1.0',
    id,
    source,
    type,
    subject,
    time: formatInstant(at),
    datacontenttype: 'application/json',
    data,
  });
}
