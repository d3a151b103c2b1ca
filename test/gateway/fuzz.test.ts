/**
 * The real service under input that nobody meant: generated operations and raw bytes over HTTP, event streams, REST and
 * WebSocket, from callers of every role. It goes on, shows nothing of its inside or of another tenant's, refuses in words
 * that a federated client gets to read, and does not grow. PITR_TEST_LONG sends ten times as much.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { createSchema } from '../../src/gateway/schema.js';
import { type Asked, Documents } from '../support/fuzz/documents.js';
import { complaint, graphqlComplaint, type Judged } from '../support/fuzz/judge.js';
import { Dice, damaged, strangeJson, strangeText } from '../support/fuzz/values.js';
import { seeded, seeds } from '../support/seed.js';
import { type Service, startService } from '../support/service.js';

const MEASURED = fileURLToPath(new URL('../support/measuredService.js', import.meta.url));
const long = process.env.PITR_TEST_LONG === '1';
/** For each of the two seeds. */
const CASES = long ? 50_000 : 5_000;
const AT_A_TIME = 12;
const SECRET = 'rival-secret';
/** What the service may hold more at the end than after a fifth of the cases: caches that have a bound. */
const GROWTH = 48 * 2 ** 20;
const TOKENS = ['fuzz-reader', 'fuzz-operator', 'fuzz-admin'];

const schema = createSchema();

test(`${2 * CASES} requests that nobody meant`, { timeout: long ? 3_600_000 : 600_000 }, async (t) => {
  for (const seed of seeds(t)) {
    t.diagnostic(`seed ${seed}`);
    await t.test(`seed ${seed}`, (inner) => withstand(inner, seed));
  }
});

async function withstand(t: TestContext, seed: number): Promise<void> {
  const service = await fuzzedService(t);
  const dice = new Dice(seeded(seed));
  const ids = await settle(service);
  const documents = new Documents(schema, dice, ids);
  const agent = new Agent({ keepAlive: true, maxSockets: AT_A_TIME });
  t.after(() => agent.destroy());
  const counts = new Map<string, number>();
  let sent = 0;
  const worker = async (until: number): Promise<void> => {
    while (sent < until) {
      const number = sent++;
      const [kind, send] = nextCase(service, agent, dice, documents);
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      assert.equal(await send(), null, `case ${number} of seed ${seed}: ${kind}`);
    }
  };
  const send = (until: number) => Promise.all(Array.from({ length: AT_A_TIME }, () => worker(until)));
  await send(CASES / 5);
  const memory = (await measured(service)).bytes;
  await send(CASES);
  const { bytes, errors } = await measured(service);
  const grown = bytes - memory;
  t.diagnostic(`${JSON.stringify(Object.fromEntries(counts))}; grown by ${Math.round(grown / 1024)} KiB`);
  assert.ok(grown < GROWTH, `the service holds ${grown} bytes more`);
  const [answer] = await ask(service, 'fuzz-reader', { query: '{ instance(id: "fuzz-db") { id } }' });
  assert.equal(answer.status, 200);
  assert.deepEqual(errors, [], 'nothing went wrong inside');
  assert.equal(service.stderr, '');
  assert.equal(await service.stop(), 0);
}

/** What kind of case it is, and what sends it and says what is wrong with the answer. Chance is all used up before it is sent. */
function nextCase(
  service: Service,
  agent: Agent,
  dice: Dice,
  documents: Documents,
): [string, () => Promise<string | null>] {
  const token = dice.chance(0.03) ? strangeHeader(dice) : dice.pick(TOKENS);
  const kind = dice.below(100);
  if (kind < 45) return ['operation', overHttp(service, agent, token, documents.next(), dice)];
  if (kind < 55) return ['raw body', rawBody(service, agent, token, documents.next(), dice)];
  if (kind < 60) return ['GET', byGet(service, agent, token, documents.next(), dice)];
  if (kind < 68) return ['REST', overRest(service, agent, token, dice)];
  if (kind < 78) return ['event stream', overEvents(service, agent, token, documents.next())];
  return ['WebSocket', overWebSocket(service, token, dice, documents)];
}

function overHttp(service: Service, agent: Agent, token: string, asked: Asked, dice: Dice) {
  const accept = dice.pick(['*/*', 'application/json', 'application/graphql-response+json']);
  const body = JSON.stringify(asked);
  return async () => {
    const answer = await send(service, agent, { path: '/graphql', token, accept, type: 'application/json', body });
    const problem = graphqlComplaint(answer, SECRET);
    if (problem) return `${problem}: ${shortened(body)} => ${shortened(answer.text)}`;
    // Any other status, and Apollo's gateway tells its client nothing but that status.
    const legible = [200, 401, 413].includes(answer.status ?? 0) || accept.includes('graphql-response');
    if (legible || answer.text.includes('BAD_REQUEST') || body.includes('"__proto__"')) return null;
    return `status ${answer.status} for a request of GraphQL: ${shortened(body)} => ${shortened(answer.text)}`;
  };
}

function rawBody(service: Service, agent: Agent, token: string, asked: Asked, dice: Dice) {
  const type = dice.pick([
    'application/json',
    'application/json; charset=utf-16',
    'text/plain',
    'application/graphql',
    '',
    'x',
  ]);
  const accept = dice.pick(['*/*', 'text/event-stream', 'text/html', ';;;', 'application/json;q=x']);
  const text = JSON.stringify(asked);
  const body = dice.pick<() => Buffer | string>([
    () => damaged(dice, text),
    () => text.slice(0, dice.below(text.length)),
    () => `\ufeff${text}`,
    () => JSON.stringify([asked, asked]),
    () => JSON.stringify(strangeJson(dice)),
    () => Buffer.from(Array.from({ length: dice.below(200) }, () => dice.below(256))),
    () => '['.repeat(dice.below(50_000)),
    () => `{"query":"{ __typename }","variables":${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}}`,
    () => '{"__proto__":{"query":"{ __typename }"},"constructor":{"prototype":{"a":1}}}',
    () => `{"query":${JSON.stringify(' '.repeat(dice.chance(0.1) ? 1_048_577 : 10))}}`,
    () => Buffer.from(text, 'utf16le'),
  ])();
  return async () => {
    const answer = await send(service, agent, { path: '/graphql', token, accept, type, body });
    const problem = complaint(answer, SECRET);
    return problem && `${problem}: ${type} ${shortened(String(body))} => ${shortened(answer.text)}`;
  };
}

function byGet(service: Service, agent: Agent, token: string, asked: Asked, dice: Dice) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) {
    if (value === undefined || JSON.stringify(value).length > 3_000) continue;
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    parameters.append(name, wellFormed(dice.chance(0.1) ? damaged(dice, text) : text));
    if (dice.chance(0.05)) parameters.append(name, wellFormed(text));
  }
  const to = `/graphql?${parameters}${dice.chance(0.05) ? '%' : ''}`;
  return async () => {
    const answer = await send(service, agent, { method: 'GET', path: to.slice(0, 12_000), token, accept: '*/*' });
    const problem = complaint(answer, SECRET);
    return problem && `${problem}: ${shortened(to)} => ${shortened(answer.text)}`;
  };
}

const REST_PATHS = [
  '/v1.0/fuzz/instances',
  '/v1.0/fuzz/instances/fuzz-db',
  '/v1.0/fuzz/instances/fuzz-db/restore',
  '/v1.0/fuzz/instances/fuzz-db/backups',
  '/v1.0/fuzz/backups',
  '/v1.0/fuzz/flavors/1',
  '/v1.0/rival/instances',
  '/v1.0/fuzz/instances/rival-db',
  '/healthz',
  '/playground/../../package.json',
  '/',
];

function overRest(service: Service, agent: Agent, token: string, dice: Dice) {
  const strange = () => encodeURIComponent(wellFormed(strangeText(dice).slice(0, 200)));
  const query = dice.chance(0.3) ? `?limit=${strange()}&marker=${strange()}` : '';
  const to = (dice.chance(0.2) ? `/v1.0/fuzz/instances/${strange()}` : dice.pick(REST_PATHS)) + query;
  const method = dice.pick(['GET', 'GET', 'POST', 'POST', 'PUT', 'PATCH', 'HEAD']);
  const noun = dice.pick(['instance', 'backup', 'recovery', 'restorePoint']);
  const json = JSON.stringify(dice.chance(0.5) ? { [noun]: strangeJson(dice) } : strangeJson(dice));
  const body = ['GET', 'HEAD'].includes(method) ? undefined : dice.chance(0.2) ? damaged(dice, json) : json;
  return async () => {
    const answer = await send(service, agent, {
      method,
      path: to,
      token,
      accept: '*/*',
      type: 'application/json',
      body,
    });
    const problem = complaint(answer, SECRET);
    return problem && `${problem}: ${method} ${to} ${shortened(body ?? '')} => ${shortened(answer.text)}`;
  };
}

function overEvents(service: Service, agent: Agent, token: string, asked: Asked) {
  const body = JSON.stringify(asked);
  return async () => {
    const answer = await send(service, agent, {
      path: '/graphql',
      token,
      accept: 'text/event-stream',
      type: 'application/json',
      body,
      isSubscription: asked.query.startsWith('subscription'),
    });
    if (answer.status !== 200) {
      const problem = graphqlComplaint(answer, SECRET);
      return problem && `${problem}: ${shortened(body)} => ${shortened(answer.text)}`;
    }
    for (const [, data = ''] of answer.text.matchAll(/^event: next\ndata: (.*)$/gm)) {
      const problem = graphqlComplaint({ text: data }, SECRET);
      if (problem) return `${problem}: ${shortened(body)} => ${shortened(data)}`;
    }
    return null;
  };
}

/** 1005 is the test's own. */
const CLOSINGS = [1005, 4400, 4401, 4403, 4409, 4429];

/** One connection with a few messages; what comes back is looked at until it ends or has nothing more to say. */
function overWebSocket(service: Service, token: string, dice: Dice, documents: Documents) {
  const messages: (string | Buffer)[] = [];
  const operations = 1 + dice.below(6);
  for (let id = 0; id < operations; id++) {
    const message = JSON.stringify({ id: String(dice.below(8)), type: 'subscribe', payload: documents.next() });
    const act = dice.below(20);
    if (act === 0) messages.push(damaged(dice, message));
    else if (act === 1) messages.push(JSON.stringify(strangeJson(dice)));
    else if (act === 2) messages.push(Buffer.from(Array.from({ length: dice.below(100) }, () => dice.below(256))));
    else if (act === 3) messages.push(JSON.stringify({ id: strangeText(dice), type: 'complete' }));
    else if (act === 4)
      messages.push(JSON.stringify({ type: dice.pick(['ping', 'pong']), payload: strangeJson(dice) }));
    else messages.push(message);
  }
  const init = JSON.stringify({ type: 'connection_init', payload: { authorization: `Bearer ${token}` } });
  const begins = dice.chance(0.97);
  // The last one of all; when it is answered, so is what came before and takes no longer.
  messages.push(JSON.stringify({ id: 'end', type: 'subscribe', payload: { query: '{ __typename }' } }));
  return async () => {
    const socket = new WebSocket(`${service.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
    const signal = AbortSignal.timeout(60_000);
    let problem: string | null = null;
    const closed = once(socket, 'close', { signal });
    const over = new Promise<void>((resolve) => {
      socket.on('message', (data) => {
        const text = String(data);
        const { id, type, payload } = JSON.parse(text) as { id?: string; type: string; payload?: unknown };
        const shown = type === 'error' ? { errors: payload } : payload;
        const wrong = ['error', 'next'].includes(type)
          ? graphqlComplaint({ text: JSON.stringify(shown) }, SECRET)
          : complaint({ text }, SECRET);
        problem ??= wrong && `${wrong}: ${shortened(String(messages))} => ${shortened(text)}`;
        if (id === 'end' && type === 'complete') resolve();
      });
    });
    await once(socket, 'open', { signal });
    if (begins) {
      socket.send(init);
      await Promise.race([once(socket, 'message', { signal }), closed]);
    }
    for (const message of messages) if (socket.readyState === socket.OPEN) socket.send(message);
    await Promise.race([over, closed]);
    socket.close();
    const [code] = await closed;
    const allowed = messages.some(({ length }) => length > 350_000) ? [1009, ...CLOSINGS] : CLOSINGS;
    if (!allowed.includes(Number(code))) {
      problem ??= `closed with ${code}: ${shortened(String(messages))}`;
    }
    return problem;
  };
}

interface Sent {
  method?: string;
  path: string;
  token: string;
  accept: string;
  type?: string;
  body?: string | Buffer;
  isSubscription?: boolean;
}

async function send(service: Service, agent: Agent, sent: Sent): Promise<Judged & { status: number }> {
  const { hostname, port } = new URL(service.url);
  const outgoing = request({
    agent,
    hostname,
    port,
    method: sent.method ?? 'POST',
    path: sent.path,
    headers: {
      accept: sent.accept,
      authorization: `Bearer ${sent.token}`,
      'apollo-require-preflight': '1',
      ...(sent.type && { 'content-type': sent.type }),
    },
    signal: AbortSignal.timeout(60_000),
  });
  outgoing.end(sent.body);
  const [response] = await once(outgoing, 'response');
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) {
    text += chunk;
    // A subscription on something that runs: seen is enough.
    if (sent.isSubscription && text.includes('event: next')) break;
  }
  return { status: response.statusCode ?? 0, text };
}

async function ask(
  service: Service,
  token: string,
  asked: Asked,
): Promise<[{ status: number }, Record<string, { id: string }>]> {
  const response = await fetch(`${service.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, connection: 'close' },
    body: JSON.stringify(asked),
  });
  const { data, errors } = (await response.json()) as { data: Record<string, { id: string }>; errors?: unknown };
  assert.equal(errors, undefined, JSON.stringify(errors));
  return [response, data];
}

/** Two tenants with a database each, and quotas that keep a lucky mutation from filling the disk. */
async function fuzzedService(t: TestContext): Promise<Service> {
  const dir = await mkdtemp(path.join(tmpdir(), 'pitr-test-'));
  const tokens = path.join(dir, 'tokens');
  const line = (name: string, tenant: string, role: string) =>
    JSON.stringify({ name, tenant, role, sha256: createHash('sha256').update(name).digest('hex') });
  const lines = TOKENS.map((name) => line(name, 'fuzz', name.slice('fuzz-'.length)));
  await writeFile(tokens, [...lines, line('rival-admin', 'rival', 'admin')].join('\n'));
  const env = {
    PITR_TOKENS_FILE: tokens,
    PITR_REGISTER_FILES: path.join(dir, 'nothing'),
    PITR_REGISTER_NETWORKS: '192.0.2.0/24',
    PITR_QUOTA_INSTANCES: '2',
    PITR_QUOTA_BACKUPS: '3',
    PITR_QUOTA_RECOVERIES: '1',
    PITR_LIMIT_RATE: '0',
    LOG_LEVEL: 'info',
  };
  let service: Service | null = null;
  try {
    service = await startService(t, { dir, env, entry: MEASURED });
  } finally {
    t.after(() => rm(dir, { recursive: true, force: true }));
  }
  return service;
}

/** Ids that operations are made with: the caller's own, and another tenant's. */
async function settle(service: Service): Promise<string[]> {
  const make = (id: string, name: string) =>
    `mutation { createInstance(input: { id: "${id}", name: "${name}", datastore: "sqlite" }) { id } }`;
  await ask(service, 'fuzz-admin', { query: make('fuzz-db', 'fuzz') });
  await ask(service, 'rival-admin', { query: make('rival-db', SECRET) });
  const ids = ['fuzz-db', 'rival-db', 'unknown'];
  for (const [token, id] of [
    ['fuzz-admin', 'fuzz-db'],
    ['rival-admin', 'rival-db'],
  ] as const) {
    const [, data] = await ask(service, token, { query: `mutation { takeBackup(instanceId: "${id}") { id } }` });
    ids.push(String(data.takeBackup?.id));
  }
  return ids;
}

interface Measured {
  bytes: number;
  errors: string[];
}

async function measured(service: Service): Promise<Measured> {
  // What is still being answered or ended has a moment to go.
  await delay(1_000);
  const known = service.log.findLast(({ msg }) => msg === 'memory');
  process.kill(service.pid ?? 0, 'SIGUSR2');
  for (const deadline = Date.now() + 30_000; ; await delay(20)) {
    const told = service.log.findLast(({ msg }) => msg === 'memory');
    if (told && told !== known) return told as unknown as Measured;
    assert.ok(Date.now() < deadline, 'the service does not say what it holds');
  }
}

/** Half a character can't stand in an address. */
function wellFormed(text: string): string {
  return Buffer.from(text).toString();
}

function strangeHeader(dice: Dice): string {
  return strangeText(dice).replace(/[^\x21-\x7e]/g, '') || '.';
}

function shortened(text: string): string {
  return text.length > 600 ? `${text.slice(0, 400)} … ${text.slice(-150)} (${text.length})` : text;
}
