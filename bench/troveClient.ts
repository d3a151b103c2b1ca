/** The client of bench/trove.ts: repeats one request for a while over kept connections and tells how it went. */
import { Agent, request } from 'node:http';

export interface Load {
  url: string;
  /** Null for a GET. */
  body: string | null;
  /** Requests under way at the same time. */
  parallel: number;
  seconds: number;
}

export interface Result {
  requests: number;
  seconds: number;
  bytes: number;
  /** Milliseconds. */
  p50: number;
  p99: number;
}

process.once('message', (load: Load) => {
  void repeat(load).then((result) => process.send?.(result, () => process.disconnect()));
});

async function repeat({ url, body, parallel, seconds }: Load): Promise<Result> {
  const agent = new Agent({ keepAlive: true, maxSockets: parallel });
  const times: number[] = [];
  let bytes = 0;
  const began = performance.now();
  const ends = began + seconds * 1000;
  async function one(): Promise<void> {
    while (performance.now() < ends) {
      const sent = performance.now();
      const answer = await ask(agent, url, body);
      bytes += answer;
      times.push(performance.now() - sent);
    }
  }
  await Promise.all(Array.from({ length: parallel }, one));
  agent.destroy();
  times.sort((a, b) => a - b);
  const at = (part: number) => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? 0;
  return { requests: times.length, seconds: (performance.now() - began) / 1000, bytes, p50: at(0.5), p99: at(0.99) };
}

/** Resolves with the bytes of the answer's body. */
function ask(agent: Agent, url: string, body: string | null): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = body === null ? {} : { 'content-type': 'application/json' };
    const asked = request(url, { agent, method: body === null ? 'GET' : 'POST', headers }, (response) => {
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      response.on('end', () =>
        response.statusCode === 200 ? resolve(bytes) : reject(new Error(`answered with ${response.statusCode}`)),
      );
      response.on('error', reject);
    });
    asked.on('error', reject);
    asked.end(body ?? undefined);
  });
}
