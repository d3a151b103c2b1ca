/** How long the fields of one operation may take together. What they began goes on; only its answer is not waited for. */
import { defaultFieldResolver, type GraphQLField, type GraphQLSchema, isObjectType } from 'graphql';
import { Fault } from '../../errors.js';

export class Patience {
  private until: number;
  private readonly waiting = new Set<(fault: Fault) => void>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly ms: number) {
    this.until = performance.now() + ms;
  }

  /** Each event of a subscription has its own time. */
  restart(): void {
    this.until = performance.now() + this.ms;
    clearTimeout(this.timer);
    if (this.waiting.size > 0) this.watch();
  }

  /** @throws Fault OPERATION_TIMED_OUT, or what the work throws */
  wait<Value>(work: Promise<Value>): Promise<Value> {
    return new Promise((resolve, reject) => {
      this.waiting.add(reject);
      if (this.waiting.size === 1) this.watch();
      const done = () => {
        this.waiting.delete(reject);
        if (this.waiting.size === 0) clearTimeout(this.timer);
      };
      work.then(resolve, reject).then(done, done);
    });
  }

  private watch(): void {
    this.timer = setTimeout(() => this.end(), this.until - performance.now());
  }

  private end(): void {
    const seconds = this.ms / 1000;
    const fault = new Fault('OPERATION_TIMED_OUT', `The operation was not answered within ${seconds} seconds`, {
      hint: 'A change may still happen: look before you try again. Ask for less at once where it was a query.',
    });
    for (const reject of this.waiting) reject(fault);
    this.waiting.clear();
  }
}

interface Patient {
  patience: Patience;
}

/** Makes every field that looks something up obey the patience of its operation. */
export function enforcePatience(schema: GraphQLSchema): void {
  for (const type of Object.values(schema.getTypeMap())) {
    if (!isObjectType(type) || type.name.startsWith('__')) continue;
    for (const field of Object.values(type.getFields())) {
      limit(field, type === schema.getSubscriptionType());
    }
  }
}

function limit(field: GraphQLField<unknown, Patient>, isSubscription: boolean): void {
  const { resolve, subscribe } = field;
  if (subscribe) {
    field.subscribe = (root, args, context, info) => {
      const source: unknown = subscribe(root, args, context, info);
      return waited(context, source);
    };
  }
  if (!resolve || resolve === defaultFieldResolver) return;
  field.resolve = (root, args, context, info) => {
    if (isSubscription) context.patience.restart();
    const answer: unknown = resolve(root, args, context, info);
    return Array.isArray(answer) ? answer.map((item) => waited(context, item)) : waited(context, answer);
  };
}

function waited({ patience }: Patient, answer: unknown): unknown {
  return answer instanceof Promise ? patience.wait(answer) : answer;
}
