/** The datastores that this service was started with, by name. */
import { Fault } from '../errors.js';
import type { Datastore } from './datastore.js';

export class DatastoreRegistry {
  private readonly byName: ReadonlyMap<string, Datastore>;

  constructor(datastores: readonly Datastore[]) {
    this.byName = new Map(datastores.map((datastore) => [datastore.name, datastore]));
  }

  /** @throws Fault DATASTORE_NOT_SUPPORTED */
  get(name: string): Datastore {
    const datastore = this.byName.get(name);
    if (datastore) return datastore;
    throw new Fault('DATASTORE_NOT_SUPPORTED', `There is no datastore called ${JSON.stringify(name.slice(0, 64))}`, {
      hint: `This service has ${[...this.byName.keys()].join(', ')}.`,
      details: { argument: 'datastore' },
    });
  }

  async close(): Promise<void> {
    await Promise.all([...this.byName.values()].map((datastore) => datastore.close()));
  }
}
