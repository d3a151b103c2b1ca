/** Prints the schema as it is checked in: `npm run schema`. */
import { printSchema } from 'graphql';
import { createSchema } from './schema.js';

process.stdout.write(`${printSchema(createSchema())}\n`);
