/** What every operation passes before it runs, whichever way it came: the same document, rules and cost over all of them. */
import {
  type DocumentNode,
  type ExecutionArgs,
  GraphQLError,
  type GraphQLSchema,
  getOperationAST,
  type OperationDefinitionNode,
  parse,
  specifiedRules,
  type ValidationRule,
  validate,
} from 'graphql';
import type { Caller } from '../../services.js';
import { CallerLimits } from './callerLimits.js';
import { checkCost, checkListSizes, costOf } from './cost.js';
import { documentRules } from './documentRules.js';
import { MOST_TOKENS, textProblem } from './documentText.js';
import type { Limits } from './limits.js';
import { type NamedDocument, PersistedOperations } from './persistedOperations.js';

/** A request as it came; nothing about it is certain. */
export interface RequestedOperation extends NamedDocument {
  operationName?: string | null;
  variables?: Record<string, unknown> | null;
}

export interface PreparedOperation extends ExecutionArgs {
  operation: OperationDefinitionNode;
}

export class Gate {
  readonly rules: readonly ValidationRule[];
  readonly callers: CallerLimits;
  private readonly persisted: PersistedOperations;

  /** @throws Error where a list of the schema has no known size */
  constructor(
    readonly schema: GraphQLSchema,
    readonly limits: Limits,
  ) {
    checkListSizes(schema);
    this.rules = documentRules(limits);
    this.callers = new CallerLimits(limits);
    this.persisted = new PersistedOperations(limits.safelist);
  }

  /**
   * The document that is meant; undefined where there is none.
   * @throws GraphQLError, Fault FORBIDDEN, OPERATION_TOO_COSTLY
   */
  textOf(caller: Caller, request: NamedDocument): string | undefined {
    const text = this.persisted.textOf(caller.tenantId, request);
    const problem = text === undefined ? null : textProblem(text);
    if (problem) throw problem;
    return text;
  }

  /** @throws Fault OPERATION_TOO_COSTLY */
  admit(key: string, document: DocumentNode, operation: OperationDefinitionNode, variables: unknown): void {
    const { cost: most } = this.limits;
    const cost = costOf(this.schema, document, operation, Object(variables ?? {}), most);
    checkCost(cost, most);
    this.callers.charge(key, cost);
  }

  /** Reads and checks as Apollo Server does for HTTP, with its codes. */
  prepare(caller: Caller, key: string, request: RequestedOperation): PreparedOperation | readonly GraphQLError[] {
    const { schema } = this;
    try {
      const text = this.textOf(caller, request);
      if (text === undefined) return [withCode(new GraphQLError('There is no query'), 'BAD_REQUEST')];
      const document = parsed(text);
      const mistakes = validate(schema, document, [...specifiedRules, ...this.rules]);
      if (mistakes.length > 0) return mistakes.map((mistake) => withCode(mistake, 'GRAPHQL_VALIDATION_FAILED'));
      const operationName = request.operationName ?? undefined;
      const operation = getOperationAST(document, operationName);
      if (!operation) return [withCode(unknownOperation(operationName), 'OPERATION_RESOLUTION_FAILURE')];
      this.admit(key, document, operation, request.variables);
      return { schema, document, operation, operationName, variableValues: request.variables };
    } catch (thrown) {
      return [thrown instanceof GraphQLError ? thrown : asGraphqlError(thrown)];
    }
  }
}

/** With the thrown as its cause, where errorShape.ts finds it. */
export function asGraphqlError(thrown: unknown, http?: { status: number }): GraphQLError {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  return new GraphQLError(error.message, { originalError: error, extensions: http ? { http } : {} });
}

function parsed(text: string): DocumentNode {
  try {
    return parse(text, { maxTokens: MOST_TOKENS });
  } catch (thrown) {
    throw thrown instanceof GraphQLError ? withCode(thrown, 'GRAPHQL_PARSE_FAILED') : thrown;
  }
}

function unknownOperation(name: string | undefined): GraphQLError {
  const message = name === undefined ? 'Must provide operation name if query contains multiple operations.' : undefined;
  return new GraphQLError(message ?? `Unknown operation named "${name?.slice(0, 128)}".`);
}

function withCode(error: GraphQLError, code: string): GraphQLError {
  const { message, nodes, source, positions, originalError } = error;
  return new GraphQLError(message, { nodes, source, positions, originalError, extensions: { code } });
}
