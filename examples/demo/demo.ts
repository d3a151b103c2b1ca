/**
 * The whole story in a minute: a service, a database, an application that writes to it, a mistake, and the way back.
 * Everything here goes through the public API, as a stranger's client would.
 *
 *   npm run demo                  on a database made for the occasion
 *   npm run demo -- --db FILE     on a copy of a SQLite file of your own
 *   npm run demo -- --datastore postgresql   on a PostgreSQL server made for the occasion
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { Client, type Progress } from './client.js';
import { countRows, deleteEverything, largestTable, nameForOrders } from './database.js';
import { Screen } from './screen.js';
import { copySqlite } from './sqliteDatabase.js';

const WRITE_BEFORE_BACKUP_MS = 1_000;
const WRITE_AFTER_BACKUP_MS = 3_000;
const WRITE_AFTER_MISTAKE_MS = 1_500;
const START_LIMIT_MS = 20_000;

const screen = new Screen(process.stdout);
const children: ChildProcess[] = [];

async function demo(datastore: string, userFile: string | undefined): Promise<string> {
  const home = await mkdtemp(path.join(tmpdir(), 'pitr-demo-'));
  releasers.push(() => rm(home, { recursive: true, force: true }));

  screen.chapter('A service and a database');
  const client = new Client(await startService(home));
  releasers.push(async () => client.close());
  screen.line(`The service answers at ${client.address}`);
  const instance = userFile ? await adopt(client, userFile, home) : await client.createInstance('shop', datastore);
  const database = instance.connectionUri;
  screen.line(`Instance ${instance.name} (${instance.datastore} ${instance.datastoreVersion}): ${instance.endpoint}`);

  screen.chapter('An application writes orders, a backup is taken meanwhile');
  const orders = await nameForOrders(database);
  const shop = spawn('./shop.js', [orders], { DATABASE_URI: database });
  await once(shop, 'message');
  await delay(WRITE_BEFORE_BACKUP_MS);
  const backup = await client.takeBackup(instance.id);
  screen.line(`Backup ${backup.id}: ${screen.bytes(backup.sizeBytes)}, recoverable from ${backup.consistentAt} on`);
  await delay(WRITE_AFTER_BACKUP_MS);

  const table = userFile ? await largestTable(database, orders) : orders;
  screen.chapter('The mistake');
  const before = await countRows(database, table);
  const { startedAt } = await deleteEverything(database, table);
  screen.line(`${startedAt}  DELETE FROM ${table};   -- and no WHERE`);
  await delay(WRITE_AFTER_MISTAKE_MS);
  shop.send('stop');
  await once(shop, 'exit');
  const left = await countRows(database, table);
  screen.line(
    `Before it the table had at least ${before} rows; now it has ${left === 0 ? 'none' : `${left}, all written since`}.`,
  );

  screen.chapter('The way back');
  screen.line(`Recovering to ${startedAt}, the instant at which the mistake was sent`);
  const clock = performance.now();
  const recovery = await client.recover(instance.id, startedAt);
  const end = await follow(client, recovery.id);
  const seconds = (performance.now() - clock) / 1000;
  const result = await client.recovery(recovery.id);
  screen.endProgress();
  if (end.state !== 'SUCCEEDED' || !result.instance || !result.recoveredTo) {
    throw new Error(`the recovery ended ${end.state}: ${result.error?.message ?? ''} ${result.error?.hint ?? ''}`);
  }
  const recovered = await countRows(result.instance.connectionUri, table);
  const { lastKeptNotBefore, lastKeptAt, firstDroppedAt, position } = result.recoveredTo;
  const committed =
    lastKeptNotBefore === lastKeptAt ? `at ${lastKeptAt}` : `between ${lastKeptNotBefore} and ${lastKeptAt}`;
  screen.table([
    ['New instance', `${result.instance.name}, running beside the damaged one`],
    ['Where', result.instance.endpoint],
    ['Rows that were gone', String(Math.max(0, recovered - left))],
    [
      `Rows in ${table} again`,
      // A row of the last milliseconds may have been committed and yet not provably so.
      `${recovered}${recovered < before ? ', up to the last one provably written by then' : ''}`,
    ],
    ['Damaged instance', `untouched, ${await countRows(database, table)} rows`],
    ['Last transaction kept', `${position}, committed ${committed}`],
    ['First one left out', `committed by ${firstDroppedAt ?? '(none)'}`],
    ['Time to recover', `${seconds.toFixed(2)} s`],
  ]);
  return client.address;
}

/** Takes a copy, WAL included, and registers it as a database that somebody else runs. */
async function adopt(client: Client, userFile: string, home: string) {
  const directory = path.join(home, 'copy');
  await mkdir(directory);
  const copy = path.join(directory, path.basename(userFile));
  await copySqlite(sqliteUri(path.resolve(userFile)), copy).catch((error: Error) => {
    throw new Error(`${userFile} cannot be read as a SQLite database (${error.message})`);
  });
  return client.registerInstance(path.basename(userFile), sqliteUri(copy));
}

function sqliteUri(file: string): string {
  return pathToFileURL(file).href.replace(/^file:/, 'sqlite:');
}

async function follow(client: Client, recoveryId: string): Promise<Progress> {
  let last: Progress | undefined;
  for await (const progress of client.watch(recoveryId)) {
    last = progress;
    screen.progress(progress);
  }
  if (!last) throw new Error('the subscription ended without an event');
  return last;
}

async function startService(home: string): Promise<string> {
  const service = spawn('../../src/main.js', [], {
    PITR_HOME: path.join(home, 'pitr'),
    PORT: process.env.PORT ?? '0',
    LOG_LEVEL: 'info',
  });
  let log = '';
  const ready = (async () => {
    for await (const chunk of service.stdout ?? []) {
      log += chunk;
      for (const line of log.split('\n').slice(0, -1)) {
        const { url } = JSON.parse(line);
        if (url) return String(url);
      }
    }
    throw new Error(`the service did not start:\n${log}`);
  })();
  const url = await Promise.race([
    ready,
    delay(START_LIMIT_MS, undefined, { ref: false }).then(() => {
      throw new Error(`the service did not start in time:\n${log}`);
    }),
  ]);
  service.stdout?.resume();
  return url;
}

function spawn(module: string, args: string[], env: Record<string, string>): ChildProcess {
  const child = fork(new URL(module, import.meta.url), args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', module.endsWith('main.js') ? 'pipe' : 'inherit', 'inherit', 'ipc'],
  });
  children.push(child);
  return child;
}

const releasers: (() => Promise<void>)[] = [];

async function cleanUp(): Promise<void> {
  for (const child of children.reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  }
  for (let release = releasers.pop(); release; release = releasers.pop()) await release();
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        datastore: { type: 'string', default: 'sqlite' },
        db: { type: 'string' },
        'exit-when-done': { type: 'boolean' },
      },
    });
    if (!['sqlite', 'postgresql'].includes(values.datastore))
      throw new Error(`There is no datastore ${values.datastore}`);
    if (values.db && values.datastore !== 'sqlite') throw new Error('--db names a SQLite file');
    return values;
  } catch (error) {
    console.error(
      `${(error as Error).message}\nUsage: npm run demo -- [--db FILE | --datastore postgresql] [--exit-when-done]`,
    );
    process.exit(2);
  }
}

const values = readOptions();
const interrupted = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
try {
  const url = await Promise.race([demo(values.datastore, values.db), interrupted]);
  if (typeof url === 'string' && !values['exit-when-done']) {
    screen.chapter(`The playground is at ${url}/   (Ctrl-C ends the demo and removes its files)`);
    await interrupted;
  }
} catch (error) {
  screen.endProgress();
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  await cleanUp();
}
