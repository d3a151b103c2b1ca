/** Reads what an OTLP/HTTP receiver was sent in JSON. */
import type { Received } from './receiver.js';

export interface SpanSeen {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId: string | undefined;
  /** 2 is SERVER, 1 INTERNAL. */
  kind: number;
  /** 2 is ERROR. */
  status: number | undefined;
  attributes: Record<string, unknown>;
}

type Value = Record<string, unknown>;
interface Body {
  resourceSpans: {
    resource: { attributes: { key: string; value: Value }[] };
    scopeSpans: { spans: (Omit<SpanSeen, 'attributes' | 'status'> & RawSpan)[] }[];
  }[];
}
interface RawSpan {
  status?: { code?: number };
  attributes: { key: string; value: Value }[];
}

export function spansIn(received: readonly Received[]): SpanSeen[] {
  return received
    .filter(({ path }) => path === '/v1/traces')
    .flatMap(({ body }) => (JSON.parse(body) as Body).resourceSpans)
    .flatMap(({ scopeSpans }) => scopeSpans)
    .flatMap(({ spans }) => spans)
    .map(({ name, traceId, spanId, parentSpanId, kind, status, attributes }) => ({
      ...{ name, traceId, spanId, parentSpanId, kind, status: status?.code },
      attributes: Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]])),
    }));
}
