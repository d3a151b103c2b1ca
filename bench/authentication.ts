/** What asking for a token costs: each kind alone, and per request over HTTP, the kinds taking turns in one run. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { type Authenticator, createAuthenticator, localAdministrator } from '../src/gateway/identity/authenticator.js';
import { gatewayUnderTest } from '../test/support/gatewayUnderTest.js';
import { trusting } from '../test/support/identified.js';
import { startIssuer } from '../test/support/issuer.js';

const ROUNDS = 9;
const ALONE_PER_ROUND = 500;
const REQUESTS_PER_ROUND = 300;
const STATIC_TOKENS = 100;
const BODY = JSON.stringify({ query: '{ __typename }' });

interface Kind {
  name: string;
  authenticator: Authenticator;
  headers: Record<string, string>;
}

export async function run(): Promise<void> {
  const releasers: (() => unknown)[] = [];
  const t = { after: (release: () => unknown) => void releasers.push(release) };
  const directory = await mkdtemp(path.join(tmpdir(), 'pitr-bench-'));
  try {
    const kinds = await makeKinds(directory, t);
    const results: Record<string, Record<string, string>> = {};
    const alone = new Map<string, number[]>();
    const http = new Map<string, number[]>();
    const agent = new Agent({ keepAlive: true });
    t.after(() => agent.destroy());
    const ports = new Map<string, number>();
    for (const { name, authenticator } of kinds)
      ports.set(name, (await gatewayUnderTest(t, { authenticator, limits: { rate: 0 } })).port);
    // The first round warms everything up and is not counted.
    for (let round = 0; round <= ROUNDS; round += 1) {
      for (const kind of kinds) {
        const identified = await measure(ALONE_PER_ROUND, () => kind.authenticator.identify(asRequest(kind.headers)));
        const asked = await measure(REQUESTS_PER_ROUND, () => ask(agent, ports.get(kind.name) ?? 0, kind.headers));
        if (round === 0) continue;
        alone.set(kind.name, [...(alone.get(kind.name) ?? []), identified]);
        http.set(kind.name, [...(http.get(kind.name) ?? []), asked]);
      }
    }
    for (const { name } of kinds) {
      results[name] = { 'identify alone, µs': summary(alone.get(name)), 'HTTP request, µs': summary(http.get(name)) };
    }
    console.log(`Medians of ${ROUNDS} rounds, with the least and the most; ${STATIC_TOKENS} static tokens in the file`);
    console.table(results);
  } finally {
    for (const release of releasers.reverse()) await release();
    await rm(directory, { recursive: true, force: true });
  }
}

async function makeKinds(directory: string, t: { after(release: () => unknown): void }): Promise<Kind[]> {
  const logger = pino({ level: 'silent' });
  const tokensFile = path.join(directory, 'tokens');
  const lines = Array.from({ length: STATIC_TOKENS }, (_, n) => {
    const sha256 = createHash('sha256').update(`token-${n}`).digest('hex');
    return JSON.stringify({ name: `${n}`, tenant: 'shop', role: 'reader', sha256 });
  });
  await writeFile(tokensFile, lines.join('\n'));
  const issuer = await startIssuer(t);
  const far = { exp: Math.floor(Date.now() / 1000) + 3600 };
  const kinds: Kind[] = [
    { name: 'none', authenticator: localAdministrator, headers: {} },
    {
      name: 'static token',
      authenticator: await createAuthenticator({ tokensFile, issuer: null, logger }),
      headers: { authorization: 'Bearer token-50' },
    },
    {
      name: 'signed token, seen for the first time',
      authenticator: await createAuthenticator({
        tokensFile: null,
        issuer: trusting(issuer, { remember: 0 }),
        logger,
      }),
      headers: { authorization: `Bearer ${await issuer.token(far)}` },
    },
    {
      name: 'signed token',
      authenticator: await createAuthenticator({ tokensFile: null, issuer: trusting(issuer), logger }),
      headers: { authorization: `Bearer ${await issuer.token(far)}` },
    },
  ];
  for (const { authenticator } of kinds) t.after(() => authenticator.close());
  return kinds;
}

/** Only what identify looks at. */
function asRequest(headers: Record<string, string>): IncomingMessage {
  const distinct = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value]]));
  return { headersDistinct: distinct } as unknown as IncomingMessage;
}

function ask(agent: Agent, port: number, headers: Record<string, string>): Promise<void> {
  return new Promise((resolve, reject) => {
    const options = { agent, port, host: '127.0.0.1', path: '/graphql', method: 'POST' };
    const sent = request({ ...options, headers: { 'content-type': 'application/json', ...headers } }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`answered ${response.statusCode}`));
      response.on('end', resolve).resume();
    });
    sent.on('error', reject).end(BODY);
  });
}

/** Microseconds each, one after another. */
async function measure(times: number, work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  for (let n = 0; n < times; n += 1) await work();
  return ((performance.now() - start) * 1000) / times;
}

function summary(numbers: number[] = []): string {
  const sorted = numbers.toSorted((a, b) => a - b);
  const at = (index: number) => (sorted[index] ?? Number.NaN).toFixed(1);
  return `${at(sorted.length >> 1)} (${at(0)}–${at(sorted.length - 1)})`;
}
