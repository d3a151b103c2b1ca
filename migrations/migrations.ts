/** Every migration of the catalog, oldest first. A released one is never changed. */
import { InitialCatalog } from './0001-initial-catalog.js';
import { Outbox } from './0002-outbox.js';

export const migrations = [InitialCatalog, Outbox];
