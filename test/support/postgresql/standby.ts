/** A standby of a rig's source. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { handOver, run } from '../../../src/datastores/postgresql/server/processes.js';
import { freePort, ManagedServer } from '../../../src/datastores/postgresql/server/server.js';
import { writeOwned } from '../../../src/datastores/postgresql/server/settings.js';
import type { PostgresRig } from './postgresRig.js';

/** A standby that is not running yet. The source is stopped for its copy, which needs no program that a major may lack. */
export async function standbyOf(rig: PostgresRig): Promise<ManagedServer> {
  const { place } = rig.server;
  const home = path.join(rig.directory, 'standby');
  const data = path.join(home, 'data');
  await mkdir(home);
  await rig.endClients();
  await rig.server.stop();
  await run('cp', ['-a', place.data, data], { runAs: null, timeoutMs: 60_000 });
  await rig.server.start();
  await handOver(home, place.runAs);
  await writeOwned(path.join(data, 'standby.signal'), '', place.runAs);
  const primary = `host=${place.socketDir} port=${place.port} user=${place.user}`;
  await writeFile(path.join(data, 'postgresql.auto.conf'), `primary_conninfo = '${primary}'\n`, { flag: 'a' });
  return new ManagedServer({
    ...place,
    data,
    socketDir: path.join(home, 'run'),
    port: await freePort(),
    logFile: path.join(home, 'log'),
  });
}
