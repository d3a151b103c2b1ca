/** Every migration of the catalog, oldest first. A released one is never changed. */
import { InitialCatalog } from './0001-initial-catalog.js';

export const migrations = [InitialCatalog];
