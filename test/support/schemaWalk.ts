/** Documents made from the schema itself, so that a test of everything also tests what was added yesterday. */
import {
  type GraphQLArgument,
  type GraphQLInputField,
  type GraphQLOutputType,
  type GraphQLSchema,
  getNamedType,
  isInputObjectType,
  isObjectType,
  isRequiredArgument,
} from 'graphql';

/** `{ … }` with every field of the type, nested so deep, or nothing for a leaf. Arguments of fields: the largest pages. */
export function everything(type: GraphQLOutputType, depth: number): string {
  const named = getNamedType(type);
  if (!isObjectType(named)) return '';
  const fields = Object.values(named.getFields()).flatMap((field) => {
    const nested = getNamedType(field.type);
    if (isObjectType(nested) && depth === 0) return [];
    const args = field.args.some(({ name }) => name === 'first') ? '(first: 500)' : '';
    return [`${field.name}${args} ${everything(field.type, depth - 1)}`];
  });
  return `{ ${['__typename', ...fields].join(' ')} }`;
}

export interface Slot {
  operation: 'query' | 'mutation' | 'subscription';
  field: string;
  /** The argument, or `argument.field` of an input object. */
  argument: string;
  type: string;
  /** The document in which this argument has this value, written as GraphQL. */
  document(value: string): string;
}

/**
 * Every place of every operation into which a caller can write an ID or a String.
 * @param samples values of required arguments that leave the rest of the operation alone, by `field.argument`, or else
 * by type; an operation that needs one that is not here throws, so that nobody forgets to teach it
 */
export function slotsOf(schema: GraphQLSchema, samples: Readonly<Record<string, string>>): Slot[] {
  const slots: Slot[] = [];
  for (const [operation, type] of [
    ['query', schema.getQueryType()],
    ['mutation', schema.getMutationType()],
    ['subscription', schema.getSubscriptionType()],
  ] as const) {
    for (const field of Object.values(type?.getFields() ?? {})) {
      if (field.name.startsWith('_')) continue;
      const selection = everything(field.type, 1);
      const required = field.args.filter(isRequiredArgument);
      const documentWith = (given: Record<string, string>) => {
        const missing = required.filter(({ name }) => !(name in given));
        const rest = missing.map((argument) => [argument.name, sampleOf(field.name, argument)] as const);
        const args = [...Object.entries(given), ...rest].map(([name, value]) => `${name}: ${value}`);
        return `${operation} { ${field.name}${args.length > 0 ? `(${args.join(', ')})` : ''} ${selection} }`;
      };
      for (const argument of field.args) {
        const named = getNamedType(argument.type);
        const here = { operation, field: field.name, type: named.name };
        if (isInputObjectType(named)) {
          const inner = Object.values(named.getFields()).filter((each) => isText(each));
          for (const each of inner) {
            slots.push({
              ...here,
              argument: `${argument.name}.${each.name}`,
              type: getNamedType(each.type).name,
              document: (value) =>
                documentWith({ [argument.name]: withField(sampleOf(field.name, argument), each.name, value) }),
            });
          }
        } else if (isText(argument)) {
          slots.push({
            ...here,
            argument: argument.name,
            document: (value) => documentWith({ [argument.name]: value }),
          });
        }
      }
    }
  }
  return slots;

  function sampleOf(field: string, argument: GraphQLArgument): string {
    const sample = samples[`${field}.${argument.name}`] ?? samples[String(argument.type)];
    if (sample === undefined)
      throw new Error(`Teach this test a value for ${field}(${argument.name}: ${argument.type})`);
    return sample;
  }
}

function isText({ type }: GraphQLArgument | GraphQLInputField): boolean {
  return ['ID', 'String'].includes(getNamedType(type).name);
}

/** An input object's literal with one field set. */
function withField(literal: string, name: string, value: string): string {
  const others = literal.replace(new RegExp(`\\b${name}: "[^"]*",? ?`), '').replace(/^\{\s*/, '');
  return `{ ${name}: ${value}, ${others}`;
}
