/** A gateway on a free port over MemoryServices, closed when the test ends, and ways to talk to it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { readConfig } from '../../src/config.js';
import { localAdministrator } from '../../src/gateway/identity/authenticator.js';
import type { Limits } from '../../src/gateway/limits/limits.js';
import { type Gateway, type GatewayOptions, startGateway } from '../../src/gateway/server.js';
import { limitsOf } from '../../src/main.js';
import { backupRow, instanceRow, recoveryRow } from './gatewayRows.js';
import { MemoryServices } from './memoryServices.js';

export interface Answer {
  status: number;
  data: Record<string, unknown> | null | undefined;
  errors: { message: string; path?: unknown[]; extensions: Record<string, unknown> }[] | undefined;
}

export interface GatewayUnderTest extends Gateway {
  services: MemoryServices;
  /** Lines of the service log, parsed. */
  log: Record<string, unknown>[];
  post(query: string, variables?: Record<string, unknown>, more?: Record<string, unknown>): Promise<Answer>;
}

export async function gatewayUnderTest(
  t: Pick<TestContext, 'after'>,
  options: Partial<Omit<GatewayOptions, 'limits'>> & { limits?: Partial<Limits> } = {},
): Promise<GatewayUnderTest> {
  const { limits, ...others } = options;
  const services = new MemoryServices();
  services.instanceRows.push(instanceRow());
  services.backupRows.push(backupRow());
  services.recoveryRows.push(recoveryRow());
  const log: Record<string, unknown>[] = [];
  const logger = pino({ level: 'debug' }, { write: (line: string) => log.push(JSON.parse(line)) });
  const gateway = await startGateway({
    services,
    authenticator: localAdministrator,
    host: '127.0.0.1',
    port: 0,
    logger,
    limits: { ...(await limitsOf(readConfig({}))), ...limits },
    ...others,
  });
  t.after(() => gateway.close());

  async function post(query: string, variables?: Record<string, unknown>, more?: Record<string, unknown>) {
    const response = await fetch(`${gateway.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify({ query, variables, ...more }),
    });
    const body = (await response.json()) as Pick<Answer, 'data' | 'errors'>;
    return { status: response.status, data: body.data, errors: body.errors };
  }
  return { ...gateway, services, log, post };
}

/** The only error of an answer, after checking that it has the one shape. */
export function onlyError({ errors }: Answer) {
  assert.equal(errors?.length, 1, JSON.stringify(errors));
  const [error] = errors ?? [];
  assert.ok(error);
  assert.deepEqual(Object.keys(error.extensions).sort(), ['code', 'details', 'hint', 'retryable']);
  return error;
}

/** Sends raw bytes and reads until the server closes, or has let an upgrade in. */
export async function raw(port: number, request: string): Promise<{ status: number; body: string }> {
  const socket = connect(port, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => {
    chunks.push(chunk);
    if (String(chunks[0]).startsWith('HTTP/1.1 101 ')) socket.destroy();
  });
  socket.write(request);
  await once(socket, 'close');
  const answer = Buffer.concat(chunks).toString();
  return { status: Number(answer.split(' ')[1]), body: answer.slice(answer.indexOf('\r\n\r\n') + 4) };
}
