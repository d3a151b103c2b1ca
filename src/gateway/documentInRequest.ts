/** Puts the document that a request over HTTP means into it, and refuses what is not fit to be read, before Apollo Server sees it. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { GraphQLError } from 'graphql';
import type { Logger } from 'pino';
import { asksForModern } from './answerStatus.js';
import { publicError } from './errorShape.js';
import { callerOf } from './identity/onRequest.js';
import { asGraphqlError, type Gate } from './limits/gate.js';
import type { NamedDocument } from './limits/persistedOperations.js';
import { logOperation } from './operationLog.js';

/** For a route's `preHandler`: a refusal is answered here, in the shape of an operation's. */
export function puttingDocument(gate: Gate, logger: Logger) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const asked = request.method === 'GET' ? inAddress(request) : request.body;
    // What has no document at all, Apollo Server refuses.
    if (typeof asked !== 'object' || asked === null || Array.isArray(asked)) return;
    const named = asked as NamedDocument;
    let text: string | undefined;
    try {
      text = gate.textOf(callerOf(request), named);
    } catch (thrown) {
      await refuse(request, reply, logger, thrown);
      return;
    }
    if (text === undefined || !isNamedByHash(named)) return;
    // The hash has been looked at, and Apollo Server would look again.
    const { extensions: _looked, ...rest } = asked as Record<string, unknown>;
    if (request.method !== 'GET') {
      request.body = { ...rest, query: text };
      return;
    }
    const { searchParams } = addressOf(request);
    searchParams.delete('extensions');
    searchParams.set('query', text);
    request.raw.url = `/graphql?${searchParams}`;
  };
}

function isNamedByHash({ extensions }: NamedDocument): boolean {
  return typeof extensions === 'object' && extensions !== null && 'persistedQuery' in extensions;
}

function addressOf(request: FastifyRequest): URL {
  return new URL(request.url, 'http://localhost');
}

function inAddress(request: FastifyRequest): NamedDocument {
  const { searchParams } = addressOf(request);
  const extensions = searchParams.get('extensions');
  return {
    query: searchParams.get('query') ?? undefined,
    extensions: extensions === null ? undefined : json(extensions),
  };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Apollo Server says so.
  }
}

async function refuse(request: FastifyRequest, reply: FastifyReply, logger: Logger, thrown: unknown): Promise<void> {
  const error = thrown instanceof GraphQLError ? thrown : asGraphqlError(thrown, { status: 400 });
  const shown = publicError(error.toJSON(), error);
  const { status = 400 } = (error.extensions.http ?? {}) as { status?: number };
  const modern = asksForModern(request.headers.accept);
  logOperation(logger, {
    requestId: request.id,
    caller: callerOf(request),
    via: 'http',
    operation: null,
    kind: undefined,
    startedAt: performance.now() - reply.elapsedTime,
    codes: [shown.extensions.code],
  });
  await reply
    .code(modern || shown.extensions.code === 'BAD_REQUEST' ? status : 200)
    .type(modern ? 'application/graphql-response+json; charset=utf-8' : 'application/json; charset=utf-8')
    .send({ errors: [shown] });
}
