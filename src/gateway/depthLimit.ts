/** Refuses documents that nest too deeply: the schema has cycles (an instance's backups' instance …) and every level multiplies. */
import { type FragmentDefinitionNode, GraphQLError, Kind, type SelectionSetNode, type ValidationRule } from 'graphql';

/** At most so many fields below one another, fragments included. Introspection is left to the library's own rule. */
export const depthLimit =
  (deepest: number): ValidationRule =>
  (context) => {
    const known = new Map<FragmentDefinitionNode, number>();

    function depthOf(set: SelectionSetNode): number {
      let below = 0;
      for (const selection of set.selections) {
        if (selection.kind === Kind.FIELD) {
          if (selection.name.value.startsWith('__')) continue;
          below = Math.max(below, 1 + (selection.selectionSet ? depthOf(selection.selectionSet) : 0));
        } else if (selection.kind === Kind.INLINE_FRAGMENT) {
          below = Math.max(below, depthOf(selection.selectionSet));
        } else {
          const fragment = context.getFragment(selection.name.value);
          if (fragment) below = Math.max(below, depthOfFragment(fragment));
        }
      }
      return below;
    }

    /** Each fragment is measured once, however often it is spread. One that spreads itself is another rule's business. */
    function depthOfFragment(fragment: FragmentDefinitionNode): number {
      const measured = known.get(fragment);
      if (measured !== undefined) return measured;
      known.set(fragment, 0);
      const depth = depthOf(fragment.selectionSet);
      known.set(fragment, depth);
      return depth;
    }

    return {
      OperationDefinition(node) {
        const depth = depthOf(node.selectionSet);
        if (depth <= deepest) return;
        const message = `The operation nests ${depth} fields deep; ${deepest} are allowed`;
        context.reportError(new GraphQLError(message, { nodes: node }));
      },
    };
  };
