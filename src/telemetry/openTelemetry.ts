/**
 * Traces for real: OpenTelemetry's SDK, sent in batches as OTLP over HTTP in JSON. Loaded only where traces are on. The
 * standard variables OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_TRACES_SAMPLER,
 * OTEL_RESOURCE_ATTRIBUTES and OTEL_BSP_* are the SDK's own to read.
 */
import {
  type Context,
  type DiagLogger,
  DiagLogLevel,
  diag,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { Tracing } from './tracing.js';

/** A receiver that is away must not hold the service's end. */
const CLOSE_LIMIT_MS = 2_000;

export interface TracingSettings {
  /** Where spans are posted to, with the path. */
  url: string;
  serviceName: string;
  /** Told what the SDK has to say: a receiver that refuses or is away. */
  warn(message: string): void;
}

export function startTracing({ url, serviceName, warn }: TracingSettings): Tracing {
  // The SDK's only way to tell of spans that were lost; one for the whole process.
  diag.setLogger(toldAs(warn), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  const provider = new BasicTracerProvider({
    resource: defaultResource()
      .merge(detectResources({ detectors: [envDetector] }))
      .merge(resourceFromAttributes({ 'service.name': serviceName })),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url }))],
  });
  const tracer = provider.getTracer('pitr-gateway');

  return {
    begin(name, { served = false, parent, attributes }) {
      const kind = served ? SpanKind.SERVER : SpanKind.INTERNAL;
      const span = tracer.startSpan(name, { kind, attributes }, contextOf(parent));
      const { traceId, spanId, traceFlags } = span.spanContext();
      return {
        traceparent: `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`,
        rename: (to) => void span.updateName(to),
        set: (more) => void span.setAttributes(more),
        end(fault = null) {
          if (fault !== null) span.setAttribute('error.type', fault).setStatus({ code: SpanStatusCode.ERROR });
          span.end();
        },
      };
    },
    async close() {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, CLOSE_LIMIT_MS);
      });
      await Promise.race([provider.shutdown().catch((error: Error) => warn(error.message)), late]);
      clearTimeout(timer);
    },
  };
}

function contextOf(traceparent: string | null): Context {
  if (traceparent === null) return ROOT_CONTEXT;
  const [, traceId = '', spanId = '', flags = '00'] = traceparent.split('-');
  // Only the lowest bit, "sampled", means something in every version of the header.
  const traceFlags = Number.parseInt(flags, 16) & 1;
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: true });
}

function toldAs(warn: (message: string) => void): DiagLogger {
  const tell = (message: string) => warn(message.slice(0, 500));
  return { error: tell, warn: tell, info() {}, debug() {}, verbose() {} };
}
