/** What the rooms tell of their work, turned into metrics and traces. */
import { collectDefaultMetrics } from 'prom-client';
import type { RecoveryState, RecoveryStepName } from '../model.js';
import { createMetrics, type Metrics } from './metrics.js';
import { noTracing, type Tracing } from './tracing.js';

export interface OperationBegin {
  via: 'http' | 'websocket' | 'events' | 'rest';
  requestId: string;
  tenant: string | null;
  traceparent: string | null;
}

export interface WatchedOperation {
  /** Of its span, for what it begins; as it came where traces are off. */
  readonly traceparent: string | null;
  /** What it turned out to be: its kind, and its root fields (for REST the pattern of the address). */
  resolved(kind: string, fields: readonly string[]): void;
  /** `field`: the root field that failed; null where the whole operation did. */
  failed(field: string | null, code: string): void;
  end(): void;
}

export interface WatchedRecovery {
  readonly traceparent: string | null;
  /** Answers with what ends the step; `code` null for success. */
  step(name: RecoveryStepName): (code: string | null) => void;
  /** `state`: RUNNING or UNWINDING where the service stops in the middle. */
  end(state: RecoveryState, code: string | null): void;
}

/** A trace with more names in it than this says only how many. */
const MOST_FIELDS_IN_A_NAME = 3;

/** How often the event loop's lag is looked at; every 10 ms, as is usual, wakes a service at rest for nothing. */
const LAG_LOOKS_MS = 50;

export class Telemetry {
  readonly metrics: Metrics = createMetrics();

  constructor(private readonly tracing: Tracing = noTracing) {}

  /** CPU, memory, handles, event loop and garbage collection of this process, as every Node service names them. */
  addProcess(): void {
    const { registry } = this.metrics;
    collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LAG_LOOKS_MS });
    // Sums of others, under names that only counters may have.
    for (const sum of ['handles', 'requests', 'resources']) registry.removeSingleMetric(`nodejs_active_${sum}_total`);
  }

  operation({ via, requestId, tenant, traceparent }: OperationBegin): WatchedOperation {
    const { operations, operationSeconds, operationsRunning } = this.metrics;
    const began = performance.now();
    const attributes = {
      'pitr.via': via,
      'pitr.request_id': requestId,
      ...(tenant !== null && { 'pitr.tenant': tenant }),
    };
    const span = this.tracing.begin('operation', { served: true, parent: traceparent, attributes });
    const codes = new Map<string | null, string>();
    let kind = 'none';
    let fields: readonly string[] = ['none'];
    operationsRunning.inc({ via });
    return {
      traceparent: span.traceparent ?? traceparent,
      resolved(found, names) {
        kind = found;
        fields = [...new Set(names)];
        const few = fields.length <= MOST_FIELDS_IN_A_NAME;
        span.rename(`${kind} ${few ? fields.join(' ') : `${fields.length} fields`}`);
        span.set({
          [via === 'rest' ? 'http.route' : 'graphql.fields']: fields.join(' '),
          [via === 'rest' ? 'http.request.method' : 'graphql.operation.type']: kind,
        });
      },
      failed(field, code) {
        if (!codes.has(field)) codes.set(field, code);
      },
      end() {
        const seconds = (performance.now() - began) / 1000;
        for (const field of fields) {
          operations.inc({ via, kind, field, code: codes.get(field) ?? codes.get(null) ?? 'OK' });
          if (kind !== 'subscription') operationSeconds.observe({ kind, field }, seconds);
        }
        operationsRunning.dec({ via });
        const [code = null] = codes.values();
        span.end(code);
      },
    };
  }

  /** Turned away before anybody could see what it asks for. */
  refused(via: OperationBegin['via'], code: string): void {
    this.metrics.operations.inc({ via, kind: 'none', field: 'none', code });
  }

  recovery(
    recovery: { id: string; tenantId: string; sourceId: string },
    origin: { requestId: string; traceparent: string | null } | null,
  ): WatchedRecovery {
    const { recoverySeconds, stepSeconds } = this.metrics;
    const began = performance.now();
    const { tracing } = this;
    const attributes = {
      'pitr.recovery_id': recovery.id,
      'pitr.tenant': recovery.tenantId,
      'pitr.source_id': recovery.sourceId,
      ...(origin && { 'pitr.request_id': origin.requestId }),
    };
    const span = tracing.begin('recovery', { parent: origin?.traceparent ?? null, attributes });
    return {
      traceparent: span.traceparent ?? origin?.traceparent ?? null,
      step(step) {
        const stepBegan = performance.now();
        const stepSpan = tracing.begin(`recovery ${step}`, {
          parent: span.traceparent,
          attributes: { 'pitr.recovery_id': recovery.id, 'pitr.step': step },
        });
        return (code) => {
          stepSeconds.observe({ step, code: code ?? 'OK' }, (performance.now() - stepBegan) / 1000);
          stepSpan.end(code);
        };
      },
      end: (state, code) => {
        span.set({ 'pitr.state': state });
        if (state !== 'RUNNING' && state !== 'UNWINDING' && state !== 'QUEUED') {
          this.recoveryEnded(state);
          recoverySeconds.observe({ state }, (performance.now() - began) / 1000);
        }
        span.end(code);
      },
    };
  }

  /** One that never ran. */
  recoveryEnded(state: RecoveryState): void {
    this.metrics.recoveriesEnded.inc({ state });
  }

  stored(bytes: number): void {
    this.metrics.storedBytes.inc(bytes);
    this.metrics.storedObjects.inc();
  }

  delivery(outcome: 'delivered' | 'failed' | 'refused' | 'expired'): void {
    this.metrics.webhookAttempts.inc({ outcome });
  }

  close(): Promise<void> {
    return this.tracing.close();
  }
}
