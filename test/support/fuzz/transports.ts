/** Each way into the service with something to send on it, and what is wrong with what comes back. */
import { once } from 'node:events';
import { type Agent, request } from 'node:http';
import { WebSocket } from 'ws';
import type { Asked, Documents } from './documents.js';
import { complaint, graphqlComplaint, type Judged } from './judge.js';
import { type Dice, damaged, strangeJson, strangeText } from './values.js';

/** What stands in the other tenant's data and must never be seen. */
export const SECRET = 'rival-secret';
/** Of a reader, an operator and an admin of the tenant `fuzz`. */
export const TOKENS = ['fuzz-reader', 'fuzz-operator', 'fuzz-admin'];

/** What kind of case it is, and what sends it and says what is wrong with the answer. Chance is all used up before it is sent. */
export function nextCase(
  service: { url: string },
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

function overHttp(service: { url: string }, agent: Agent, token: string, asked: Asked, dice: Dice) {
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

function rawBody(service: { url: string }, agent: Agent, token: string, asked: Asked, dice: Dice) {
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

function byGet(service: { url: string }, agent: Agent, token: string, asked: Asked, dice: Dice) {
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

function overRest(service: { url: string }, agent: Agent, token: string, dice: Dice) {
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

function overEvents(service: { url: string }, agent: Agent, token: string, asked: Asked) {
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
    // Not `.`: other signs than a line feed that JavaScript ends lines at may stand in JSON.
    for (const [, data = ''] of answer.text.matchAll(/^event: next\ndata: ([^\n]*)$/gm)) {
      const problem = graphqlComplaint({ text: data }, SECRET);
      if (problem) return `${problem}: ${shortened(body)} => ${shortened(data)}`;
    }
    return null;
  };
}

/** 1005 is the test's own. */
const CLOSINGS = [1005, 4400, 4401, 4403, 4408, 4409, 4429];

/** One connection with a few messages; what comes back is looked at until it ends or has nothing more to say. */
function overWebSocket(service: { url: string }, token: string, dice: Dice, documents: Documents) {
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

/** A body above the limit is answered before it is read; what then is written meets a closed connection. */
async function send(service: { url: string }, agent: Agent, sent: Sent): Promise<Judged & { status: number }> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await sendOnce(service, agent, sent);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EPIPE' && code !== 'ECONNRESET') throw error;
      if ((sent.body?.length ?? 0) > 350_000) return { status: 413, text: '{}' };
      // A kept connection may be closed by the service just when it is taken again.
      if (attempt > 0) throw error;
    }
  }
}

async function sendOnce(service: { url: string }, agent: Agent, sent: Sent): Promise<Judged & { status: number }> {
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
