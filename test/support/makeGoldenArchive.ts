/**
 * Makes test/fixtures/golden-archive with the release at hand, once for each version of a stored format:
 *   node scripts/build.mjs && node dist/test/support/makeGoldenArchive.js test/fixtures/golden-archive
 * The instance is deleted before its home is copied, so the copy knows no path of the machine it was made on.
 */
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { backUp, type Cut, createInstance, mark, marksOf, write } from './recoverable.js';
import { Service } from './service.js';
import { TestDatabase } from './sqliteDatabase.js';

/** What must come back, by an instant and by a position. */
export interface GoldenPoint {
  pointInTime: string;
  position: string;
  marks: string[];
}

export interface Golden {
  instanceId: string;
  points: GoldenPoint[];
}

const target = process.argv[2];
if (!target) throw new Error('name the directory to make');
const dir = path.join(tmpdir(), 'pitr-golden');
await mkdir(dir);
const service = new Service(dir, {});
await service.start();

const instance = await createInstance(service, 'golden');
await write(instance, "INSERT INTO marks VALUES ('before the backup')");
await backUp(service, instance.id);
const points: GoldenPoint[] = [];
async function remember({ lastKeptAt, position }: Cut & { lastKeptAt: string }): Promise<void> {
  points.push({ pointInTime: lastKeptAt, position, marks: await marksOf(instance) });
}
await remember(await mark(service, instance, 'after the backup'));
// More than a page each, so that pages are written by the backup, by the log, and by both.
await write(instance, "CREATE TABLE ballast AS SELECT hex(zeroblob(3000)) AS zeros UNION ALL SELECT 'x'");
await remember(await mark(service, instance, 'with ballast'));
await write(instance, 'DELETE FROM marks');
await remember(await mark(service, instance, 'after the accident'));
await service.stop();
await service.start();
await remember(await mark(service, instance, 'after a restart'));
await service.graphql('mutation ($id: ID!) { deleteInstance(id: $id) { id } }', { id: instance.id });
await service.stop();

const catalog = path.join(service.home, 'catalog.db');
const database = await TestDatabase.open(catalog);
await database.run('VACUUM');
await database.run('PRAGMA journal_mode = DELETE');
await database.close();
await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
await writeFile(path.join(target, 'catalog.db.gz'), gzipSync(await readFile(catalog), { level: 9 }));
await cp(path.join(service.home, 'secret.key'), path.join(target, 'secret.key'));
for (const name of await readdir(path.join(service.home, 'storage'))) {
  await cp(path.join(service.home, 'storage', name), path.join(target, 'storage', name), { recursive: true });
}
const golden: Golden = { instanceId: instance.id, points };
await writeFile(path.join(target, 'expected.json'), `${JSON.stringify(golden, null, 2)}\n`);
await rm(dir, { recursive: true });
