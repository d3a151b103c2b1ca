/** Every migration of the catalog, oldest first. A released one is never changed. */
import { InitialCatalog } from './0001-initial-catalog.js';
import { Outbox } from './0002-outbox.js';
import { InstanceNotices } from './0003-instance-notices.js';
import { MadeFrom } from './0004-made-from.js';
import { BlakeHashes } from './0005-blake-hashes.js';

export const migrations = [InitialCatalog, Outbox, InstanceNotices, MadeFrom, BlakeHashes];
