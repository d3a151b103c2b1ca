/** Metrics and the span of one GraphQL operation, over HTTP, WebSocket and event streams alike. */
import type { DocumentNode, OperationDefinitionNode } from 'graphql';
import type { Caller } from '../services.js';
import type { Telemetry, WatchedOperation } from '../telemetry/telemetry.js';
import type { PublicError } from './errorShape.js';
import { rootFields } from './rootFields.js';

export class OperationWatch {
  private readonly watched: WatchedOperation;
  private fields: Map<string, string> = new Map();

  constructor(
    telemetry: Telemetry,
    via: 'http' | 'websocket' | 'events',
    facts: { requestId: string; caller: Caller | null; traceparent: string | null },
  ) {
    const { requestId, caller, traceparent } = facts;
    this.watched = telemetry.operation({ via, requestId, tenant: caller?.tenantId ?? null, traceparent });
  }

  get traceparent(): string | null {
    return this.watched.traceparent;
  }

  /** The document is valid, and this operation of it is run. */
  resolved(document: DocumentNode, operation: OperationDefinitionNode): void {
    this.fields = rootFields(document, operation);
    this.watched.resolved(operation.operation, [...this.fields.values()]);
  }

  failed({ path, extensions }: Pick<PublicError, 'path' | 'extensions'>): void {
    this.watched.failed(this.fields.get(String(path?.[0])) ?? null, extensions.code);
  }

  end(): void {
    this.watched.end();
  }
}
