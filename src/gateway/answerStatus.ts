/**
 * The status of an answer to a well-formed request whose document or variables are refused. As the GraphQL-over-HTTP
 * specification recommends: 400 in application/graphql-response+json, and 200 in application/json, because clients of that
 * type (Apollo's gateway is one) take any other status for a failure of the transport and bury the answer.
 */
import type { ApolloServerPlugin } from '@apollo/server';
import type { GatewayContext } from './context.js';

const MODERN = 'application/graphql-response+json';

/** @param accept the header as it came */
export function asksForModern(accept: string | undefined): boolean {
  return (accept ?? '').split(',').some((range) => {
    const [type = '', ...parameters] = range.toLowerCase().split(';');
    return type.trim() === MODERN && !parameters.some((parameter) => /^\s*q=0(\.0*)?\s*$/.test(parameter));
  });
}

export const answerStatus: ApolloServerPlugin<GatewayContext> = {
  async requestDidStart() {
    return {
      async willSendResponse({ request, response: { http, body } }) {
        if (http.status !== 400 || body.kind !== 'single') return;
        const { errors = [] } = body.singleResult;
        // What is no GraphQL request at all stays a 400 for everybody.
        if (errors.some(({ extensions }) => extensions?.code === 'BAD_REQUEST')) return;
        if (asksForModern(request.http?.headers.get('accept'))) {
          http.headers.set('content-type', `${MODERN}; charset=utf-8`);
        } else {
          http.status = 200;
        }
      },
    };
  },
};
