/** Hive gateway's own program in a process of its own, over HTTP, SSE and WebSocket on one port. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 10_000;
const program = fileURLToPath(new URL('./bin.js', import.meta.resolve('@graphql-hive/gateway')));
const config = fileURLToPath(new URL('./gateway.config.js', import.meta.url));

export interface Hive {
  /** Of its GraphQL. */
  url: string;
  close(): Promise<void>;
}

/** Resolves once it listens, on 127.0.0.1. `port`: any free one unless given. */
export async function startHive(supergraph: string, port?: number): Promise<Hive> {
  const dir = await mkdtemp(path.join(tmpdir(), 'pitr-hive-'));
  const file = path.join(dir, 'supergraph.graphql');
  await writeFile(file, supergraph);
  const chosen = port ?? (await freePort());
  const options = ['--config-path', config, '--host', '127.0.0.1', '--port', String(chosen)];
  const child = fork(program, ['supergraph', file, ...options], {
    cwd: dir,
    // A group of its own: Ctrl-C in a terminal is for whoever started it, who then closes it.
    detached: true,
    env: { ...process.env, FORK: '1' },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  async function close(): Promise<void> {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.disconnect();
      const patience = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
      await exited;
      clearTimeout(patience);
    }
    await rm(dir, { recursive: true, force: true });
  }
  try {
    await listening(child);
  } catch (error) {
    await close();
    throw error;
  }
  return { url: `http://127.0.0.1:${chosen}/graphql`, close };
}

async function listening(child: ChildProcess): Promise<void> {
  let log = '';
  await new Promise<void>((resolve, reject) => {
    const fail = (what: string) => reject(new Error(`Hive gateway ${what}:\n${log.slice(-4096)}`));
    const timer = setTimeout(() => fail('did not start in time'), START_LIMIT_MS);
    child.once('exit', () => fail('ended'));
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk) => {
        log = (log + chunk).slice(-16_384);
        if (!log.includes('Listening on')) return;
        clearTimeout(timer);
        resolve();
      });
    }
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address ? address.port : 0;
}
