/** A client of the subscription recoveryProgress that keeps every event, over any number of connections. */
import assert from 'node:assert/strict';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import type { Service } from './service.js';

export interface ProgressSeen {
  sequence: number;
  state: string;
  step: string | null;
  percent: number;
}

export class WatchedProgress {
  readonly events: ProgressSeen[] = [];

  /** Watches until the recovery's end (true) or the loss of the connection (false). */
  async watch(service: Service, recoveryId: string): Promise<boolean> {
    const client = createClient({
      url: `${service.url.replace(/^http/, 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      retryAttempts: 0,
    });
    const query = 'subscription ($id: ID!) { recoveryProgress(recoveryId: $id) { sequence state step percent } }';
    try {
      const answers = client.iterate<{ recoveryProgress: ProgressSeen }>({ query, variables: { id: recoveryId } });
      for await (const { data, errors } of answers) {
        if (errors?.[0]) throw errors[0];
        if (data) this.events.push(data.recoveryProgress);
      }
      return true;
    } catch {
      return false;
    } finally {
      await client.dispose();
    }
  }

  /** The numbers rise, but for an event that a new connection repeats; the percent never falls. */
  assertRising(): void {
    for (const [i, event] of this.events.entries()) {
      const before = this.events[i - 1];
      if (!before) continue;
      const told = JSON.stringify(this.events.slice(i - 1, i + 1));
      const repeated = event.sequence === before.sequence && event.state === before.state;
      assert.ok(repeated || event.sequence > before.sequence, `the sequence does not rise: ${told}`);
      assert.ok(event.percent >= before.percent, `the percent falls: ${told}`);
    }
  }
}
