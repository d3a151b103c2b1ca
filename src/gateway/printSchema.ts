/** Prints the schema as it is checked in: `npm run schema`. */
import { createSdl } from './schema.js';

process.stdout.write(createSdl());
