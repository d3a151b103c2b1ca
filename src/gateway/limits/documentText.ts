/** Bounds on a document's text, found by reading its tokens alone: the parser and the rules after it recurse. */
import { GraphQLError, Lexer, Source, TokenKind } from 'graphql';

/** Far more than any sensible document has; stops one that only costs time to parse. */
export const MOST_TOKENS = 10_000;
/** Brackets of any kind within one another. The deepest of the sensible ones, introspection, has 16. */
const DEEPEST_BRACKETS = 100;

const OPENING: readonly string[] = [TokenKind.BRACE_L, TokenKind.BRACKET_L, TokenKind.PAREN_L];
const CLOSING: readonly string[] = [TokenKind.BRACE_R, TokenKind.BRACKET_R, TokenKind.PAREN_R];

/** Null where it may be parsed; also where it is not GraphQL at all, which the parser says better. */
export function textProblem(text: string): GraphQLError | null {
  const lexer = new Lexer(new Source(text));
  try {
    let depth = 0;
    for (let count = 0; lexer.advance().kind !== TokenKind.EOF; count++) {
      const { kind } = lexer.token;
      if (OPENING.includes(kind)) depth++;
      if (CLOSING.includes(kind)) depth--;
      if (depth > DEEPEST_BRACKETS) return problem(`nests more than ${DEEPEST_BRACKETS} brackets`);
      if (count >= MOST_TOKENS) return problem(`has more than ${MOST_TOKENS} tokens`);
    }
  } catch (thrown) {
    if (!(thrown instanceof GraphQLError)) throw thrown;
  }
  return null;
}

function problem(what: string): GraphQLError {
  return new GraphQLError(`Syntax Error: The document ${what}`, {
    extensions: { code: 'GRAPHQL_PARSE_FAILED', http: { status: 400 } },
  });
}
