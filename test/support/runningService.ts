/** The whole service in this process, over a home of its own, stopped when the test ends. */
import assert from 'node:assert/strict';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { readConfig } from '../../src/config.js';
import { startService } from '../../src/main.js';
import { type RestAnswer, restAt } from './rest.js';
import { scratchDir } from './scratch.js';

const PATIENCE_MS = 30_000;

export async function runningService(t: Pick<TestContext, 'after'>) {
  let stop = async (): Promise<void> => {};
  // Hooks run in this order: the service ends before its home goes.
  t.after(() => stop());
  const home = path.join(await scratchDir(t), 'home');
  const service = await startService(readConfig({ PITR_HOME: home, PORT: '0' }), pino({ level: 'silent' }));
  stop = service.stop;
  const root = `${service.url}/v1.0/demo`;
  const rest = restAt(root);

  /** The answer of an address as soon as it is as wanted. */
  async function until(address: string, wanted: (body: RestAnswer['body']) => boolean): Promise<RestAnswer['body']> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const { body } = await rest('GET', address);
      if (wanted(body)) return body;
      assert.ok(Date.now() < deadline, `${address} is still ${JSON.stringify(body)}`);
      await delay(20);
    }
  }

  /** A new SQLite instance, and the file it is. */
  async function create(name: string): Promise<{ id: string; file: string }> {
    const { status, body } = await rest('POST', '/instances', { instance: { name, datastore: { type: 'sqlite' } } });
    assert.equal(status, 200, JSON.stringify(body));
    return { id: body.instance.id, file: fileOf(body.instance) };
  }

  async function backUp(instance: string): Promise<RestAnswer['body']> {
    const { status, body } = await rest('POST', '/backups', { backup: { name: 'nightly', instance, incremental: 0 } });
    assert.equal(status, 202, JSON.stringify(body));
    return (await until(`/backups/${body.backup.id}`, ({ backup }) => backup.status === 'COMPLETED')).backup;
  }

  /** Does `work`, one transaction; answers with the instant that still keeps it and nothing later. */
  async function committed(instanceId: string, work: () => Promise<void>): Promise<string> {
    const begunMs = Date.now();
    await work();
    // The latest point may lie a second back, so it is asked for until it holds what was just done.
    for (const deadline = begunMs + PATIENCE_MS; ; ) {
      const latest = await latestCommit(instanceId);
      if (Date.parse(latest) >= begunMs) return latest;
      assert.ok(Date.now() < deadline, `${instanceId} still ends at ${latest}`);
      await delay(20);
    }
  }

  async function latestCommit(instanceId: string): Promise<string> {
    const response = await fetch(`${service.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify({
        query: 'query ($id: ID!) { recoveryPlan(instanceId: $id) { plan { closestPointInTime } fault { message } } }',
        variables: { id: instanceId },
      }),
    });
    const { data } = (await response.json()) as RestAnswer['body'];
    assert.ok(data.recoveryPlan.plan, JSON.stringify(data.recoveryPlan));
    return data.recoveryPlan.plan.closestPointInTime;
  }

  return { url: service.url, root, rest, until, create, backUp, committed };
}

export function fileOf({ endpoint }: { endpoint: string }): string {
  return fileURLToPath(endpoint.replace(/^sqlite:/, 'file:'));
}
