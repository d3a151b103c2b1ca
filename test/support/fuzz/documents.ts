/** Operations made from the schema by chance: nearly right ones, wrong ones, and shapes that are meant to hurt. */
import {
  type GraphQLArgument,
  type GraphQLInputType,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  isCompositeType,
  isEnumType,
  isInputObjectType,
  isListType,
  isNonNullType,
  isObjectType,
  isRequiredArgument,
} from 'graphql';
import { type Dice, damaged, strangeJson, strangeText } from './values.js';

export interface Asked {
  query: string;
  variables?: unknown;
  operationName?: unknown;
  extensions?: unknown;
}

const ROOTS = ['query', 'query', 'query', 'mutation', 'subscription'] as const;

export class Documents {
  private variables: Record<string, { type: string; value: unknown }> = {};

  /** @param ids of what the caller has, and of what somebody else has */
  constructor(
    private readonly schema: GraphQLSchema,
    private readonly dice: Dice,
    private readonly ids: readonly string[],
  ) {}

  next(): Asked {
    const { dice } = this;
    if (dice.chance(0.1)) return { query: this.hurtful() };
    const asked = this.operation();
    if (dice.chance(0.15)) asked.query = damaged(dice, asked.query);
    if (dice.chance(0.05)) asked.variables = strangeJson(dice);
    if (dice.chance(0.03)) asked.operationName = strangeJson(dice, 1);
    if (dice.chance(0.03)) asked.extensions = { persistedQuery: strangeJson(dice, 2) };
    if (dice.chance(0.02)) asked.extensions = { persistedQuery: { version: 1, sha256Hash: '0'.repeat(64) } };
    return asked;
  }

  private operation(): Asked {
    const { dice } = this;
    this.variables = {};
    const kind = dice.pick(ROOTS);
    const root = this.schema.getRootType(
      { query: 'query', mutation: 'mutation', subscription: 'subscription' }[kind] as never,
    );
    const fields = Array.from({ length: dice.chance(0.8) || kind === 'subscription' ? 1 : 3 }, () =>
      this.field(root, 0),
    );
    const declared = Object.entries(this.variables).map(([name, { type }]) => `$${name}: ${type}`);
    const head = declared.length > 0 ? `${kind} Fuzz(${declared.join(', ')})` : kind;
    const values = Object.entries(this.variables).map(([name, { value }]) => [name, value]);
    return { query: `${head} { ${fields.join(' ')} }`, variables: Object.fromEntries(values) };
  }

  private selection(type: GraphQLNamedType, depth: number): string {
    if (!isCompositeType(type)) return '';
    if (!isObjectType(type)) {
      const [member] = this.schema.getPossibleTypes(type);
      return `{ __typename ... on ${member?.name} ${member ? this.selection(member, depth) : '{ id }'} }`;
    }
    const count = 1 + this.dice.below(depth > 4 ? 1 : 4);
    return `{ ${Array.from({ length: count }, () => this.field(type, depth)).join(' ')} }`;
  }

  private field(type: GraphQLNamedType | null | undefined, depth: number): string {
    const { dice } = this;
    if (!isObjectType(type)) return '__typename';
    if (dice.chance(0.02)) return strangeText(dice).replace(/\W/g, '') || 'nothing';
    const all = Object.values(type.getFields());
    const leaves = all.filter((field) => !isCompositeType(getNamedType(field.type)));
    const field = dice.pick(depth > 5 && leaves.length > 0 ? leaves : all);
    const given = field.args.filter((argument) => isRequiredArgument(argument) || dice.chance(0.4));
    const args = given.map((argument) => `${argument.name}: ${this.argument(argument)}`);
    const alias = dice.chance(0.1) ? `a${dice.below(5)}: ` : '';
    const called = args.length > 0 ? `${field.name}(${args.join(', ')})` : field.name;
    return `${alias}${called} ${this.selection(getNamedType(field.type), depth + 1)}`;
  }

  private argument(argument: GraphQLArgument): string {
    if (this.dice.chance(0.5)) return written(this.value(argument.type));
    const name = `v${Object.keys(this.variables).length}`;
    this.variables[name] = { type: String(argument.type), value: this.value(argument.type) };
    return `$${name}`;
  }

  private value(type: GraphQLInputType): unknown {
    const { dice } = this;
    if (dice.chance(0.15)) return strangeJson(dice, 3);
    if (isNonNullType(type)) return this.value(type.ofType);
    if (dice.chance(0.1)) return null;
    if (isListType(type)) {
      const length = dice.chance(0.003) ? 40_000 : dice.below(4);
      const one = this.value(type.ofType);
      return Array.from({ length }, () => (length > 100 ? one : this.value(type.ofType)));
    }
    if (isEnumType(type)) return new Name(dice.pick(type.getValues()).name);
    if (isInputObjectType(type)) {
      const fields = Object.values(type.getFields()).filter((field) => isNonNullType(field.type) || dice.chance(0.5));
      return Object.fromEntries(fields.map((field) => [field.name, this.value(field.type)]));
    }
    return this.scalar(getNamedType(type).name);
  }

  private scalar(name: string): unknown {
    const { dice } = this;
    if (name === 'Int') return dice.pick([1, 2, 50, 500, 0, -1, 501, 2 ** 31 - 1]);
    if (name === 'Boolean') return dice.chance(0.5);
    if (name === 'DateTime') return dice.pick(['2026-11-22T12:00:00Z', '2099-01-01T00:00:00.000001+02:00', 'now', '1']);
    if (name === '_Any') {
      const __typename = dice.pick(['DatabaseInstance', 'DatabaseBackup', 'Recovery', 'Query', 'toString']);
      return dice.chance(0.8) ? { __typename, id: dice.pick(this.ids) } : strangeJson(dice, 2);
    }
    return dice.chance(0.6) ? dice.pick(this.ids) : strangeText(dice);
  }

  private hurtful(): string {
    const { dice } = this;
    const many = 1 + dice.below(dice.chance(0.1) ? 6_000 : 60);
    const nested = (open: string, inner: string, close: string) => open.repeat(many) + inner + close.repeat(many);
    return dice.pick([
      () => `{ ${nested('a {', 'b', '}')} }`,
      () => `{ instances(first: ${nested('[', '1', ']')}) { id } }`,
      () => `{ _entities(representations: [${nested('{a:', '1', '}')}]) { __typename } }`,
      () => `{ backup(id: "x") { ${nested('parent {', 'id', '}')} } }`,
      () => `{ ${nested('... {', '__typename', '}')} }`,
      () => '{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }',
      () => `{ ${'__typename '.repeat(many)} }`,
      () => `{ ${Array.from({ length: many }, (_, index) => `a${index}: instances { id }`).join(' ')} }`,
      () => `query (${Array.from({ length: many }, (_, index) => `$v${index}: Int`).join(' ')}) { __typename }`,
      () => `{ instances(first: ${'9'.repeat(many)}) { id } }`,
      () => `{ instances(after: "${'\\u0000'.repeat(many)}") { id } }`,
      () => `{ instances(after: """${strangeText(dice).replaceAll('"', '')}""") { id } }`,
      () =>
        `{ ${Array.from({ length: many }, (_, index) => `...F${index}`).join(' ')} } ${Array.from({ length: many }, (_, index) => `fragment F${index} on Query { instances { id } }`).join(' ')}`,
      () => `{ instances { ${'backups { instance { '.repeat(many % 8)} id ${'} }'.repeat(many % 8)} } }`,
      () =>
        `{ __schema { types { fields { type { ${'ofType { '.repeat(many % 20)} name ${'} '.repeat(many % 20)} } } } } }`,
      () => `{ __typename ${'@skip(if: false) '.repeat(many)} }`,
      () => `#${strangeText(dice)}\n{ __typename }`,
    ])();
  }
}

/** A value that is written without quotes. */
class Name {
  constructor(readonly name: string) {}

  toJSON(): string {
    return this.name;
  }
}

/** A JSON value as GraphQL writes it; what GraphQL has no words for comes out as nonsense, which is as good. */
function written(value: unknown): string {
  if (value instanceof Name) return value.name;
  if (Array.isArray(value)) return `[${value.map(written).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    return `{ ${Object.entries(value)
      .map(([name, one]) => `${name}: ${written(one)}`)
      .join(', ')} }`;
  }
  return JSON.stringify(value) ?? 'null';
}
