/**
 * What an operation can cost, found out before it runs: the most that its answer can hold. An object costs 1 and a value
 * 0.1, both times the sizes of the lists around them; `first` is the size of a list that has it. Pure.
 */
import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLCompositeType,
  type GraphQLField,
  type GraphQLObjectType,
  type GraphQLSchema,
  getNamedType,
  getNullableType,
  isCompositeType,
  isListType,
  isObjectType,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
  typeFromAST,
  valueFromASTUntyped,
} from 'graphql';
import { Fault } from '../../errors.js';
import { LARGEST_PAGE } from '../arguments.js';

const OBJECT = 1;
const VALUE = 0.1;

/** Lists that nobody can ask a part of, with the size that they are taken for. */
const LIST_SIZES: Readonly<Record<string, number>> = {
  'DatabaseInstance.notices': 5,
  'DatabaseInstance.recoveryWindows': 5,
  'DatabaseBackup.chain': 5,
  'Recovery.steps': 6,
  'RecoveryPlan.incrementals': 5,
};

/** What is more work than its answer shows. */
const OWN_COST: Readonly<Record<string, number>> = {
  // It may have the source's log fetched, and reads the archive: each counts as an operation of its own (callerLimits.ts).
  'Query.recoveryPlan': 1_000,
  'Query._service': 100,
  'Query.__schema': 2_000,
  'Query.__type': 200,
};
const MUTATION = 100;

/** Selections that are looked at while an operation is counted; fragments within fragments can make it any number. */
const MOST_LOOKS = 200_000;

type Variables = Readonly<Record<string, unknown>>;

/** @throws Error for a list without `first` that LIST_SIZES does not know: every list has to have a size */
export function checkListSizes(schema: GraphQLSchema): void {
  for (const type of Object.values(schema.getTypeMap())) {
    if (!isObjectType(type) || type.name.startsWith('__')) continue;
    for (const field of Object.values(type.getFields())) {
      if (!isListType(getNullableType(field.type)) || field.name === '_entities') continue;
      if (field.args.some(({ name }) => name === 'first') || `${type.name}.${field.name}` in LIST_SIZES) continue;
      throw new Error(`${type.name}.${field.name} is a list whose size is not known: teach cost.ts`);
    }
  }
}

/**
 * The cost of an operation that has passed validation, a whole number. Counting stops where it is clear that `most` is
 * passed, so that a document can't make the counting itself costly; the answer is then above `most` and otherwise says nothing.
 */
export function costOf(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  given: Variables,
  most = Number.POSITIVE_INFINITY,
): number {
  const variables = { ...defaultsOf(operation), ...given };
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition);
  }
  const root = schema.getRootType(operation.operation);
  if (!root) return 0;
  let counted = 0;
  let looks = 0;

  /** Adds what the fields cost where their parent may be there `times` times. */
  function count(parent: GraphQLCompositeType, sets: readonly SelectionSetNode[], times: number): void {
    // Each of them is one of its types: the dearest.
    const types = isObjectType(parent) ? [parent] : schema.getPossibleTypes(parent);
    const before = counted;
    let dearest = before;
    for (const type of types) {
      counted = before;
      countObject(type, sets, times);
      dearest = Math.max(dearest, counted);
    }
    counted = dearest;
  }

  function countObject(parent: GraphQLObjectType, sets: readonly SelectionSetNode[], times: number): void {
    const collected = new Map<string, FieldNode[]>();
    const spread = new Set<string>();
    for (const set of sets) collect(parent, set, collected, spread);
    for (const nodes of collected.values()) {
      if (counted > most) return;
      countField(parent, nodes, times);
    }
  }

  function countField(parent: GraphQLObjectType, nodes: readonly FieldNode[], times: number): void {
    const [node] = nodes;
    const name = node?.name.value ?? '';
    const own = OWN_COST[`${parent.name}.${name}`] ?? (parent === schema.getMutationType() ? MUTATION : 0);
    const field = parent.getFields()[name];
    // __typename is a value; what __schema and __type hold is in their own cost.
    if (!node || !field) {
      counted += times * (own + VALUE);
      return;
    }
    const type = getNamedType(field.type);
    const many = times * listSize(parent, field, node, variables);
    counted += times * own + many * (isCompositeType(type) ? OBJECT : VALUE);
    const below = nodes.flatMap(({ selectionSet }) => selectionSet ?? []);
    if (isCompositeType(type)) count(type, below, many);
  }

  /** Fields under one name are answered once, however often they are asked for. */
  function collect(
    parent: GraphQLObjectType,
    set: SelectionSetNode,
    into: Map<string, FieldNode[]>,
    spread: Set<string>,
  ): void {
    for (const selection of set.selections) {
      if (++looks > MOST_LOOKS) counted = Number.POSITIVE_INFINITY;
      if (counted > most) return;
      if (selection.kind === Kind.FIELD) {
        const key = selection.alias?.value ?? selection.name.value;
        const same = into.get(key);
        if (same) same.push(selection);
        else into.set(key, [selection]);
        continue;
      }
      const name = selection.kind === Kind.FRAGMENT_SPREAD ? selection.name.value : null;
      if (name !== null && spread.has(name)) continue;
      if (name !== null) spread.add(name);
      const fragment = selection.kind === Kind.FRAGMENT_SPREAD ? fragments.get(selection.name.value) : selection;
      if (fragment && applies(parent, fragment.typeCondition)) collect(parent, fragment.selectionSet, into, spread);
    }
  }

  function applies(parent: GraphQLObjectType, condition: FragmentDefinitionNode['typeCondition'] | undefined): boolean {
    const type = condition && typeFromAST(schema, condition);
    if (!type || type === parent) return true;
    return !isObjectType(type) && isCompositeType(type) && schema.isSubType(type, parent);
  }

  count(root, [operation.selectionSet], 1);
  return Math.ceil(counted);
}

function listSize(
  parent: GraphQLObjectType,
  field: GraphQLField<unknown, unknown>,
  node: FieldNode,
  variables: Variables,
) {
  if (!isListType(getNullableType(field.type))) return 1;
  const given = (name: string): unknown => {
    const value = node.arguments?.find((argument) => argument.name.value === name)?.value;
    if (value?.kind === Kind.VARIABLE) return variables[value.name.value];
    if (value?.kind === Kind.INT) return Number(value.value);
    return value?.kind === Kind.LIST ? value.values : undefined;
  };
  if (field.name === '_entities') {
    const references = given('representations');
    return Array.isArray(references) ? references.length : 1;
  }
  const first = given('first') ?? field.args.find(({ name }) => name === 'first')?.defaultValue;
  // What is no size is refused when it runs, in words that say so.
  if (typeof first === 'number') return Math.min(Math.max(1, first), LARGEST_PAGE);
  return LIST_SIZES[`${parent.name}.${field.name}`] ?? 1;
}

/** As far as sizes can be told by them. */
function defaultsOf({ variableDefinitions = [] }: OperationDefinitionNode): Variables {
  const defaults: Record<string, unknown> = {};
  for (const { variable, defaultValue } of variableDefinitions) {
    if (defaultValue) defaults[variable.name.value] = valueFromASTUntyped(defaultValue);
  }
  return defaults;
}

/** @throws Fault OPERATION_TOO_COSTLY */
export function checkCost(cost: number, most: number): void {
  if (cost <= most) return;
  throw new Fault('OPERATION_TOO_COSTLY', `The operation could answer with more than its limit: a cost above ${most}`, {
    hint: 'Ask for smaller pages with first, for fewer lists within lists, or in several operations.',
    details: { limit: 'cost', most },
  });
}
