/** The rules that a document has to keep besides GraphQL's own, the same over HTTP, WebSocket and event streams. */
import { GraphQLError, NoSchemaIntrospectionCustomRule, type ValidationRule } from 'graphql';
import { depthLimit } from '../depthLimit.js';
import type { Limits } from './limits.js';

export function documentRules(limits: Pick<Limits, 'depth' | 'aliases' | 'introspection'>): ValidationRule[] {
  const rules = [depthLimit(limits.depth), aliasLimit(limits.aliases)];
  return limits.introspection ? rules : [...rules, NoSchemaIntrospectionCustomRule];
}

/** Other names let one document ask for the same thing very often. Counted as written: what a fragment multiplies, cost counts. */
function aliasLimit(most: number): ValidationRule {
  return (context) => {
    let found = 0;
    return {
      Field({ alias }) {
        if (alias) found++;
      },
      Document: {
        leave(node) {
          if (found <= most) return;
          const message = `The document gives ${found} fields another name; ${most} are allowed`;
          context.reportError(new GraphQLError(message, { nodes: node.definitions[0] }));
        },
      },
    };
  };
}
