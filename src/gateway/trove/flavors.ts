/**
 * Flavors, as far as Trove's command line needs them: it looks one up by its id before it creates an instance. Here a
 * flavor is a text that is carried along with an instance, so any text is the id of one and there is no list of them.
 */
import type { FastifyInstance } from 'fastify';
import { checkText } from '../arguments.js';
import { type Answering, idIn } from './context.js';
import { flavorShape } from './shapes.js';

export function serveFlavors(scope: FastifyInstance, answer: Answering): void {
  scope.get(
    '/flavors',
    answer('reader', async () => ({ flavors: [] })),
  );
  scope.get(
    '/flavors/:id',
    answer('reader', async (context, request) => ({
      flavor: flavorShape(checkText('flavor', idIn(request), 255), context),
    })),
  );
}
