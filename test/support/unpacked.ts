/** The plain bytes of a captured segment, in whatever form it comes. */
import { wholeBlocks } from '../../src/blocks/blockFormat.js';
import { plainOfBlock } from '../../src/blocks/packing.js';
import type { CapturedSegment } from '../../src/datastores/datastore.js';

export async function* plainOf({ packed, open }: Pick<CapturedSegment, 'packed' | 'open'>): AsyncGenerator<Buffer> {
  for await (const chunk of open()) {
    if (!packed) {
      yield chunk;
      continue;
    }
    for (const { block, header } of wholeBlocks(chunk)) {
      const plain = plainOfBlock(block as Buffer<ArrayBuffer>);
      if (plain?.length !== header.plainBytes) throw new Error('a block cannot be unpacked');
      yield Buffer.from(plain);
    }
  }
}
