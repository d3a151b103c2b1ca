/** The whole service in this process, with a token for each tenant and role that a test names. */
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import { readConfig } from '../../src/config.js';
import { startService } from '../../src/main.js';
import { scratchDir } from './scratch.js';

export interface ServiceUnderTest {
  url: string;
  port: number;
  directory: string;
  /** The body of the answer, as text and parsed. */
  ask(tenant: string, query: string, variables?: Record<string, unknown>): Promise<Body>;
}

export interface Body {
  text: string;
  data: Record<string, unknown> | null;
  errors?: { message: string; extensions: { code: string; details: Record<string, unknown> } }[];
}

/** Tenants' administrators; the token of each is the tenant's own name. */
export async function serviceUnderTest(
  t: Pick<TestContext, 'after'>,
  tenants: readonly string[],
  environment: Record<string, string> = {},
  logger: Logger = pino({ level: 'silent' }),
): Promise<ServiceUnderTest> {
  let stop = async (): Promise<void> => {};
  // Hooks run in this order: the service ends before its directory goes.
  t.after(() => stop());
  const directory = await scratchDir(t);
  const tokens = path.join(directory, 'tokens');
  const lines = tenants.map((tenant) => {
    const sha256 = createHash('sha256').update(tenant).digest('hex');
    return JSON.stringify({ name: tenant, tenant, role: 'admin', sha256 });
  });
  await writeFile(tokens, lines.join('\n'));
  const home = path.join(directory, 'home');
  const config = readConfig({
    PITR_HOME: home,
    PORT: '0',
    PITR_TOKENS_FILE: tokens,
    PITR_REGISTER_FILES: directory,
    ...environment,
  });
  const service = await startService(config, logger);
  stop = service.stop;
  return {
    url: service.url,
    port: Number(new URL(service.url).port),
    directory,
    async ask(tenant, query, variables) {
      const response = await fetch(`${service.url}/graphql`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          connection: 'close',
          authorization: `Bearer ${tenant}`,
          // Always the same, so that answers can be compared whole.
          'x-request-id': 'asked',
        },
        body: JSON.stringify({ query, variables }),
      });
      const text = await response.text();
      return { text, ...JSON.parse(text) };
    },
  };
}

/** Asks until the field `state` under the only root field is one of these; fails after thirty seconds. */
export async function untilState(
  service: ServiceUnderTest,
  tenant: string,
  query: string,
  states: readonly string[],
): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const { data, text } = await service.ask(tenant, query);
    const [found] = Object.values(data ?? {}) as { state: string }[];
    if (found && states.includes(found.state)) return;
    if (performance.now() > deadline) throw new Error(`not ${states.join(' or ')} in time: ${text}`);
    await delay(50);
  }
}
