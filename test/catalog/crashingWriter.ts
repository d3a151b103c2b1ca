/** A process that appends segments to the stretch `s` until it is killed, and prints each one acknowledged. */
import { openCatalog } from '../../src/catalog/catalog.js';
import { aSegment } from './examples.js';

const [file = ''] = process.argv.slice(2);
let hex = '';
for await (const chunk of process.stdin) hex += chunk;

const catalog = await openCatalog({ file, secretKey: Buffer.from(hex, 'hex') });
const ended = (await catalog.read.newestStretch('i'))?.lastOrdinal ?? 0;
// Far more than the test waits for: it ends even if nobody kills it.
for (let after = ended; after < ended + 10_000; after++) {
  await catalog.write((writer) => writer.insertSegment(aSegment({ stretchId: 's', after, last: after + 1 })));
  process.stdout.write(`${after + 1}\n`);
}
