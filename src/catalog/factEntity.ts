/** The table `catalog_facts`: what the catalog knows of itself. */
import { EntitySchema } from 'typeorm';
import { primary, text } from './columns.js';

export interface FactRow {
  /** So far only `keyCheck`: a known text, sealed with the key that this catalog's secrets are sealed with. */
  name: string;
  value: string;
}

export const factEntity = new EntitySchema<FactRow>({
  name: 'Fact',
  tableName: 'catalog_facts',
  columns: { name: primary(text), value: text },
});
