/**
 * What a federated gateway costs: the median time of a query through Apollo's gateway and through Hive against the same
 * question put to the service directly, one request at a time, the three taking turns within one run. The service and
 * Apollo's gateway share this process, Hive has its own. PITR_BENCH_ROUNDS rounds, 300 unless told.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { startHive } from '../examples/federation/hive.js';
import { type Project, startProjects } from '../examples/federation/projects.js';
import { composeSupergraph } from '../examples/federation/supergraph.js';
import { readConfig } from '../src/config.js';
import { startService } from '../src/main.js';
import { startApolloGateway } from '../test/support/apolloGateway.js';

const ROUNDS = Number(process.env.PITR_BENCH_ROUNDS ?? 300);
const WARM_UP_ROUNDS = 100;
const DATABASES = 50;

const ids = Array.from({ length: DATABASES }, (_, n) => `db-${n}`);
const fields = 'id origin state endpoint earliestRecoverableTime';

interface Question {
  query: string;
  /** The same asked without a gateway, where the query itself can't be. */
  direct: string;
  variables?: Record<string, unknown>;
}

const questions: Record<string, Question> = {
  'one instance, ours alone': same(`{ instance(id: "db-7") { ${fields} } }`),
  [`${DATABASES} instances, ours alone`]: same(`{ instances { ${fields} } }`),
  [`a project's ${DATABASES} databases, their fields from us`]: {
    query: `{ projects { databases { ${fields} } } }`,
    direct: `query ($of: [_Any!]!) { _entities(representations: $of) { ... on DatabaseInstance { ${fields} } } }`,
    variables: { of: ids.map((id) => ({ __typename: 'DatabaseInstance', id })) },
  },
};

export async function run(): Promise<void> {
  const releasers: (() => Promise<unknown>)[] = [];
  try {
    const home = await mkdtemp(path.join(process.env.PITR_BENCH_DIR ?? tmpdir(), 'pitr-bench-'));
    releasers.push(() => rm(home, { recursive: true, force: true }));
    const service = await startService(
      readConfig({ PITR_HOME: home, PORT: '0', PITR_LIMIT_RATE: '0' }),
      pino({ level: 'silent' }),
    );
    releasers.push(() => service.stop());
    const direct = `${service.url}/graphql`;
    for (const id of ids) await ask(direct, `mutation { createInstance(input: ${input(id)}) { id } }`);

    const databases = ids.map((id) => ({ id, name: id, createdAt: '2026' }));
    const project: Project = { id: 'p', title: 'All', startedAt: '2026', databases };
    const projects = await startProjects(() => [project]);
    releasers.push(() => projects.close());
    const supergraph = await composeSupergraph({ pitr: direct, projects: projects.url });
    const apollo = await startApolloGateway(supergraph);
    releasers.push(() => apollo.close());
    const hive = await startHive(supergraph);
    releasers.push(() => hive.close());

    console.log(`Median milliseconds of ${ROUNDS} requests, one at a time, and how many times the direct one`);
    const rows: Record<string, Record<string, string>> = {};
    for (const [name, question] of Object.entries(questions)) {
      rows[name] = await measure(question, direct, { "Apollo's gateway": apollo.url, 'Hive gateway': hive.url });
    }
    console.table(rows);
  } finally {
    for (let release = releasers.pop(); release; release = releasers.pop()) await release();
  }
}

function same(query: string): Question {
  return { query, direct: query };
}

function input(id: string): string {
  return `{ id: "${id}", name: "${id}", datastore: "sqlite" }`;
}

async function measure(
  { query, direct, variables }: Question,
  service: string,
  gateways: Record<string, string>,
): Promise<Record<string, string>> {
  const times: Record<string, number[]> = {};
  async function time(name: string, url: string, question: string, given?: Record<string, unknown>): Promise<void> {
    const start = performance.now();
    await ask(url, question, given);
    times[name] = [...(times[name] ?? []), performance.now() - start];
  }
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round += 1) {
    if (round === 0) for (const name of Object.keys(times)) times[name] = [];
    await time('direct', service, direct, variables);
    for (const [name, url] of Object.entries(gateways)) await time(name, url, query);
  }
  const base = median(times.direct);
  const shown = Object.entries(times).map(([name, taken]) => {
    const middle = median(taken);
    return [name, name === 'direct' ? middle.toFixed(2) : `${middle.toFixed(2)} (× ${(middle / base).toFixed(1)})`];
  });
  return Object.fromEntries(shown);
}

/** @throws Error where the answer holds one: the figures would be those of a failure */
async function ask(url: string, query: string, variables?: Record<string, unknown>): Promise<void> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = (await response.json()) as { data?: unknown; errors?: { message: string }[] };
  if (!data || errors) throw new Error(`${url}: ${errors?.[0]?.message}`);
}

function median(numbers: number[] = []): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}
