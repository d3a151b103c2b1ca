/** Which role each operation needs: declared beside it, said in its description, checked before anything else of it runs. */
import { defaultFieldResolver, type GraphQLField, type GraphQLSchema } from 'graphql';
import { Extensions } from 'type-graphql';
import { Fault } from '../errors.js';
import { type Role, roles } from '../services.js';
import type { GatewayContext } from './context.js';

type RootField = GraphQLField<unknown, GatewayContext>;

/** Each role may do what those before it may. */
export function allows(role: Role, needed: Role): boolean {
  return roles.indexOf(role) >= roles.indexOf(needed);
}

/** Declares the lowest role that a query, mutation or subscription is open to. */
export function RequiresRole(role: Role): MethodDecorator {
  return Extensions({ requiredRole: role }) as MethodDecorator;
}

/**
 * Makes the declarations hold, for the schema's root fields.
 * @throws Error for a field that declares none: it would be open to everyone
 */
export function enforceRoles(schema: GraphQLSchema): void {
  for (const type of [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()]) {
    for (const field of Object.values(type?.getFields() ?? {})) {
      const needed = field.extensions.requiredRole as Role | undefined;
      if (!needed || !roles.includes(needed)) throw new Error(`${type?.name}.${field.name} declares no role`);
      enforce(field, needed);
    }
  }
}

/** A subscription is checked when it begins; its events are resolved for the caller that began it. */
function enforce(field: RootField, needed: Role): void {
  const check = ({ caller }: GatewayContext): void => {
    if (allows(caller.role, needed)) return;
    throw new Fault('FORBIDDEN', `${field.name} needs the role ${needed}`, {
      hint: `Your role here is ${caller.role}; ask an administrator of your tenant.`,
    });
  };
  const { subscribe, resolve = defaultFieldResolver } = field;
  if (subscribe) {
    field.subscribe = (root, args, context, info) => {
      check(context);
      return subscribe(root, args, context, info);
    };
  } else {
    field.resolve = (root, args, context, info) => {
      check(context);
      return resolve(root, args, context, info);
    };
  }
  field.description = `${field.description ?? ''} Role: ${needed}.`.trimStart();
}
