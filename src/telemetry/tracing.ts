/** Traces as the service makes them: spans with a parent and attributes; none of it does anything until traces are on. */

export type Attributes = Record<string, string | number | boolean>;

export interface Span {
  /** For what comes under it, here or elsewhere; null where traces are off. */
  readonly traceparent: string | null;
  rename(name: string): void;
  set(attributes: Attributes): void;
  /** Once. `fault`: the code of what went wrong, never its words: they may repeat what a caller wrote. */
  end(fault?: string | null): void;
}

export interface SpanOptions {
  /** Somebody asked for it from outside. */
  served?: boolean;
  /** A well-formed traceparent; null begins a trace. */
  parent: string | null;
  attributes: Attributes;
}

export interface Tracing {
  begin(name: string, options: SpanOptions): Span;
  /** Sends what is waiting; gives up after a few seconds. */
  close(): Promise<void>;
}

const noSpan: Span = { traceparent: null, rename() {}, set() {}, end() {} };

export const noTracing: Tracing = { begin: () => noSpan, async close() {} };

/** Null for what is not one, or of all zeros, which the specification calls invalid. */
export function wellFormedTraceparent(text: unknown): string | null {
  const found =
    typeof text === 'string' ? /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/.exec(text) : null;
  return found === null || /^0+$/.test(found[1] ?? '') || /^0+$/.test(found[2] ?? '') ? null : found[0];
}
