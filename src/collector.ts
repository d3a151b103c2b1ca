/**
 * V8's garbage collector, asked to run. Buffers lie outside its heap, where it hardly weighs them: left to itself it lets
 * hundreds of megabytes of them lie, and then goes through the whole heap.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
/** Of this thread: the youngest objects only, a fraction of a millisecond to a few; or all of them. */
export const collect: (options: { type: 'minor' | 'major' }) => void = runInNewContext('gc');
