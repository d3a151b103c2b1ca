/**
 * Bounds on a document's text, found by reading its tokens alone: the parser and the rules after it recurse, and one of
 * GraphQL's rules compares all fields under one name, and all fragments, with one another.
 */
import { GraphQLError, Lexer, Source, type Token, TokenKind } from 'graphql';
import { Fault } from '../../errors.js';

/** Far more than any sensible document has; stops one that only costs time to parse. */
export const MOST_TOKENS = 10_000;
/** Brackets of any kind within one another. The deepest of the sensible ones, introspection, has 16. */
const DEEPEST_BRACKETS = 100;
/** Operations and fragments. */
const MOST_DEFINITIONS = 50;
/** Fields with the name of an earlier one beside them, and spreads with an earlier one beside them, in all of the document. */
const MOST_REPEATS = 100;

const OPENING: readonly string[] = [TokenKind.BRACE_L, TokenKind.BRACKET_L, TokenKind.PAREN_L];
const CLOSING: readonly string[] = [TokenKind.BRACE_R, TokenKind.BRACKET_R, TokenKind.PAREN_R];

/** Null where it may be parsed; also where it is not GraphQL at all, which the parser says better. Else a GraphQLError or Fault. */
export function textProblem(text: string): Error | null {
  const lexer = new Lexer(new Source(text));
  const selections = new Selections();
  try {
    let depth = 0;
    for (let count = 0; lexer.advance().kind !== TokenKind.EOF; count++) {
      const { kind } = lexer.token;
      if (OPENING.includes(kind)) depth++;
      if (CLOSING.includes(kind)) depth--;
      if (depth > DEEPEST_BRACKETS) return problem(`nests more than ${DEEPEST_BRACKETS} brackets`);
      if (count >= MOST_TOKENS) return problem(`has more than ${MOST_TOKENS} tokens`);
      selections.take(lexer.token);
      if (selections.definitions > MOST_DEFINITIONS) return tooManyDefinitions();
      if (selections.repeats > MOST_REPEATS) return tooManyRepeats();
    }
  } catch (thrown) {
    if (!(thrown instanceof GraphQLError)) throw thrown;
  }
  return null;
}

/** Counts what is written beside one another, token by token. */
class Selections {
  definitions = 0;
  repeats = 0;
  /** Of the selection sets around the present token what they hold; an inline fragment's is that of the set around it. */
  private readonly sets: Set<string>[] = [];
  private parentheses = 0;
  private inFragment = false;
  private before: Token | null = null;

  take(token: Token): void {
    const { kind } = token;
    if (kind === TokenKind.PAREN_L) this.parentheses++;
    else if (kind === TokenKind.PAREN_R) this.parentheses--;
    // Within parentheses braces are values.
    else if (this.parentheses > 0) return;
    else if (kind === TokenKind.BRACE_L) this.open();
    else if (kind === TokenKind.BRACE_R) this.sets.pop();
    else if (kind === TokenKind.SPREAD) this.inFragment = true;
    else if (kind === TokenKind.NAME) this.name(token.value);
    this.before = token;
  }

  private open(): void {
    const around = this.sets.at(-1);
    if (!around) this.definitions++;
    this.sets.push(around && this.inFragment ? around : new Set());
    this.inFragment = false;
  }

  private name(name: string): void {
    const before = this.before?.kind;
    // Of a directive, and of a field whose alias has been counted.
    if (before === TokenKind.AT || before === TokenKind.COLON) return;
    if (!this.inFragment) this.add(name);
    else if (before === TokenKind.SPREAD && name !== 'on') {
      this.inFragment = false;
      this.add('...');
    }
  }

  private add(selection: string): void {
    const set = this.sets.at(-1);
    if (set?.has(selection)) this.repeats++;
    set?.add(selection);
  }
}

function tooManyDefinitions(): Fault {
  return new Fault('OPERATION_TOO_COSTLY', `The document has more than ${MOST_DEFINITIONS} operations and fragments`, {
    hint: 'Send only the operation that is to run, with the fragments that it needs.',
    details: { limit: 'definitions', most: MOST_DEFINITIONS },
  });
}

function tooManyRepeats(): Fault {
  const message = `The document repeats fields or fragments beside one another more than ${MOST_REPEATS} times`;
  return new Fault('OPERATION_TOO_COSTLY', message, {
    hint: 'Ask for each field once: under one name it is answered once, however often it is asked for.',
    details: { limit: 'repeats', most: MOST_REPEATS },
  });
}

function problem(what: string): GraphQLError {
  return new GraphQLError(`Syntax Error: The document ${what}`, {
    extensions: { code: 'GRAPHQL_PARSE_FAILED', http: { status: 400 } },
  });
}
