/** The custom scalars. DateTime is strict in both directions; inside the service an instant is always a whole number of microseconds. */
import { GraphQLError, GraphQLScalarType, Kind, print, type ValueNode, valueFromASTUntyped } from 'graphql';
import { Fault } from '../errors.js';
import { formatInstant, type Instant, instant, parseInstant } from '../instant.js';

/** A Fault is kept as the original error, so that errorShape.ts finds it whether the value was a literal or a variable. */
function refuse(fault: Fault): GraphQLError {
  return new GraphQLError(fault.message, { originalError: fault, extensions: { code: fault.code } });
}

function readInstant(value: unknown): Instant {
  try {
    return parseInstant(typeof value === 'string' ? value : String(JSON.stringify(value)));
  } catch (thrown) {
    throw thrown instanceof Fault ? refuse(thrown) : thrown;
  }
}

export const DateTime = new GraphQLScalarType<Instant, string>({
  name: 'DateTime',
  description:
    "An instant on the source's clock: RFC 3339 with an explicit offset and up to six decimals (2026-11-22T17:05:01.123456Z). No offset, a seventh decimal, or anything else is refused with INVALID_POINT_IN_TIME, literal and variable alike. Answers are in UTC with six decimals.",
  specifiedByURL: 'https://www.rfc-editor.org/rfc/rfc3339#section-5.6',
  serialize(value) {
    if (typeof value !== 'number') throw new TypeError('DateTime is answered from whole microseconds');
    return formatInstant(instant(value));
  },
  parseValue: readInstant,
  parseLiteral: (node) => readInstant(node.kind === Kind.STRING ? node.value : print(node)),
});

function wholeNumber(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
    throw new GraphQLError('BigInt is a whole number between -(2^53 - 1) and 2^53 - 1, written as a JSON number');
  }
  return value;
}

export const BigIntNumber = new GraphQLScalarType<number, number>({
  name: 'BigInt',
  description: 'A whole number up to 2^53 - 1, always a JSON number (byte and row counts).',
  specifiedByURL: 'https://www.rfc-editor.org/rfc/rfc8259#section-6',
  serialize: wholeNumber,
  parseValue: wholeNumber,
  parseLiteral: (node) => wholeNumber(node.kind === Kind.INT ? Number(node.value) : print(node)),
});

export const JsonValue = new GraphQLScalarType({
  name: 'JSON',
  description: 'Any JSON value; an object in every answer of this service.',
  specifiedByURL: 'https://www.rfc-editor.org/rfc/rfc8259',
  serialize: (value: unknown) => value,
  parseValue: (value: unknown) => value,
  parseLiteral: (node: ValueNode, variables) => valueFromASTUntyped(node, variables),
});
