/**
 * This service as one part of a larger graph: the service, a second subgraph and Hive gateway over both.
 *
 *   npm run example:federation        the gateway listens on GATEWAY_PORT, 4100 unless set
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { readConfig } from '../../src/config.js';
import { startService } from '../../src/main.js';
import { startHive } from './hive.js';
import { type Project, startProjects } from './projects.js';
import { composeSupergraph } from './supergraph.js';

const releasers: (() => Promise<unknown>)[] = [];

async function start(): Promise<string> {
  const home = await mkdtemp(path.join(tmpdir(), 'pitr-federation-'));
  releasers.push(() => rm(home, { recursive: true, force: true }));
  const config = readConfig({ PITR_HOME: home, PORT: '0' });
  const service = await startService(config, pino({ level: 'warn' }));
  releasers.push(() => service.stop());
  const pitr = `${service.url}/graphql`;

  const databases = await Promise.all(['orders', 'customers'].map((name) => createDatabase(pitr, name)));
  const web: Project = { id: 'web', title: 'Web shop', startedAt: '2025-05-01', databases };
  const projects = await startProjects(() => [web]);
  releasers.push(() => projects.close());

  const supergraph = await composeSupergraph({ pitr, projects: projects.url });
  const hive = await startHive(supergraph, Number(process.env.GATEWAY_PORT || 4100));
  releasers.push(() => hive.close());
  return hive.url;
}

/** What the other subgraph remembers of a database: its id here, and its own words. */
async function createDatabase(url: string, id: string) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      query: `mutation ($id: ID!) {
        createInstance(input: { id: $id, name: "a name of ours", datastore: "sqlite" }) { id createdAt }
        takeBackup(instanceId: $id) { id }
      }`,
      variables: { id },
    }),
  });
  const { data, errors } = (await response.json()) as {
    data?: { createInstance: { id: string; createdAt: string } };
    errors?: { message: string }[];
  };
  if (!data || errors) throw new Error(`could not create ${id}: ${errors?.[0]?.message}`);
  return { ...data.createInstance, name: `the ${id} of the web shop` };
}

async function stop(): Promise<void> {
  for (let release = releasers.pop(); release; release = releasers.pop()) await release();
}

const interrupted = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
const starting = start();
try {
  const url = await Promise.race([starting, interrupted]);
  if (typeof url === 'string') {
    console.log(`
One graph of two services is at ${url} (open it in a browser). Paste:

{
  projects {                # answered by the projects subgraph
    title
    databases {
      name
      state                 # answered by pitr-gateway, for all databases in one call
      latestRecoverableTime
      backups { type state consistentAt }
    }
  }
}

Ctrl-C ends all three and removes their files.`);
    await interrupted;
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  // Interrupted while starting: what is half started has to be there before it can be stopped.
  await starting.catch(() => undefined);
  await stop();
}
