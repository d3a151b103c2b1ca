/** A minimal client of the API: fetch for queries and mutations, graphql-ws for the subscription. */
import { setTimeout as delay } from 'node:timers/promises';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';

export interface Instance {
  id: string;
  name: string;
  datastore: string;
  datastoreVersion: string;
  endpoint: string;
  /** With credentials. */
  connectionUri: string;
}

export interface Backup {
  id: string;
  state: string;
  sizeBytes: number;
  consistentAt: string;
  error: { message: string; hint: string | null } | null;
}

export interface Progress {
  state: string;
  step: string | null;
  percent: number;
  bytesDone: number;
  bytesTotal: number | null;
  message: string | null;
}

export interface Recovery {
  id: string;
  state: string;
  instance: Instance | null;
  recoveredTo: {
    position: string;
    lastKeptNotBefore: string | null;
    lastKeptAt: string | null;
    firstDroppedAt: string | null;
  } | null;
  error: { message: string; hint: string | null } | null;
}

const INSTANCE = 'id name datastore datastoreVersion endpoint connectionUri';
const BACKUP = 'id state sizeBytes consistentAt error { message hint }';
const BACKUP_POLL_MS = 100;
const BACKUP_LIMIT_MS = 600_000;

export class Client {
  private readonly socket;

  private readonly url: string;

  /** `address` is the service's own, without a path. */
  constructor(readonly address: string) {
    this.url = `${address}/graphql`;
    this.socket = createClient({ url: this.url.replace(/^http/, 'ws'), webSocketImpl: WebSocket, lazy: true });
  }

  async createInstance(name: string, datastore: string): Promise<Instance> {
    const { createInstance } = await this.ask<{ createInstance: Instance }>(
      `mutation ($input: CreateInstanceInput!) { createInstance(input: $input) { ${INSTANCE} } }`,
      { input: { name, datastore } },
    );
    return createInstance;
  }

  async registerInstance(name: string, connectionUri: string): Promise<Instance> {
    const { registerInstance } = await this.ask<{ registerInstance: Instance }>(
      `mutation ($input: RegisterInstanceInput!) { registerInstance(input: $input) { ${INSTANCE} } }`,
      { input: { name, datastore: 'sqlite', connectionUri } },
    );
    return registerInstance;
  }

  /** Resolves when the backup is completed. */
  async takeBackup(instanceId: string): Promise<Backup> {
    const { takeBackup } = await this.ask<{ takeBackup: Backup }>(
      `mutation ($id: ID!) { takeBackup(instanceId: $id) { ${BACKUP} } }`,
      { id: instanceId },
    );
    const deadline = performance.now() + BACKUP_LIMIT_MS;
    while (performance.now() < deadline) {
      const { backup } = await this.ask<{ backup: Backup }>(`query ($id: ID!) { backup(id: $id) { ${BACKUP} } }`, {
        id: takeBackup.id,
      });
      if (backup.state === 'COMPLETED') return backup;
      if (backup.state !== 'RUNNING') throw new Error(`the backup ended ${backup.state}: ${backup.error?.message}`);
      await delay(BACKUP_POLL_MS);
    }
    throw new Error('the backup did not end in time');
  }

  async recover(instanceId: string, pointInTime: string): Promise<Recovery> {
    const { recoverInstance } = await this.ask<{ recoverInstance: Recovery }>(
      'mutation ($id: ID!, $at: DateTime!) { recoverInstance(instanceId: $id, pointInTime: $at) { id state } }',
      { id: instanceId, at: pointInTime },
    );
    return recoverInstance;
  }

  async recovery(id: string): Promise<Recovery> {
    const { recovery } = await this.ask<{ recovery: Recovery }>(
      `query ($id: ID!) { recovery(id: $id) { id state instance { ${INSTANCE} } error { message hint }
         recoveredTo { position lastKeptNotBefore lastKeptAt firstDroppedAt } } }`,
      { id },
    );
    return recovery;
  }

  async *watch(recoveryId: string): AsyncGenerator<Progress> {
    const query = `subscription ($id: ID!) {
      recoveryProgress(recoveryId: $id) { state step percent bytesDone bytesTotal message }
    }`;
    const events = this.socket.iterate<{ recoveryProgress: Progress }>({ query, variables: { id: recoveryId } });
    for await (const { data, errors } of events) {
      if (errors?.[0]) throw errors[0];
      if (data) yield data.recoveryProgress;
    }
  }

  async close(): Promise<void> {
    await this.socket.dispose();
  }

  private async ask<T>(query: string, variables: Record<string, unknown>): Promise<T> {
    const response = await fetch(this.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = (await response.json()) as {
      data?: T;
      errors?: { message: string; extensions?: { hint?: string } }[];
    };
    if (errors?.[0]) throw new Error([errors[0].message, errors[0].extensions?.hint].filter(Boolean).join('. '));
    if (!data) throw new Error(`the service answered ${response.status} without data`);
    return data;
  }
}
