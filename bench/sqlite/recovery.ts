/**
 * A whole recovery through the service beside its floors and Litestream, in turns: hashes, copy, recovery, Litestream,
 * hashes … so that whatever else the machine does weighs on all of them. Backups are measured in the same way.
 */
import { cp, rm } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { benchDirectory } from './benchDirectory.js';
import { median, ratios, seconds, spread } from './figures.js';
import { copyFloor, HashFloor } from './floors.js';
import { fillFreeMemory } from './freeMemory.js';
import { Litestream } from './litestream.js';
import { runProgram, stop } from './program.js';
import { type Recovered, Service } from './service.js';
import { Database, type Kind } from './workload.js';

const MIB = 1 << 20;
const SIZES = (process.env.PITR_BENCH_MIB ?? '300,1024').split(',').map(Number);
const KINDS = (process.env.PITR_BENCH_KINDS ?? '1:1,4:1').split(',') as Kind[];
const ROUNDS = Number(process.env.PITR_BENCH_ROUNDS ?? 5);
/** Of the database's size. */
const LOG_SHARE = 0.3;
/** Long enough for Litestream's last interval to have passed. */
const SETTLE_MS = 3_000;
/** A recovery begins on a machine that was at rest, and so does what it is compared with. */
const REST_MS = 5_000;
/** What is written in a measurement, and more, in sizes of the database. */
const FREE_SIZES = 4;

export async function run(): Promise<void> {
  console.log(`Recovery and backup: ${cpus()[0]?.model}, ${availableParallelism()} cores, ${new Date().toISOString()}`);
  console.log('Seconds, median (least–most); ratios are of the same round.');
  for (const kind of KINDS) for (const mib of SIZES) await compare(kind, mib);
}

async function compare(kind: Kind, mib: number): Promise<void> {
  const { dir, remove } = await benchDirectory();
  const hashes = await HashFloor.start();
  const home = path.join(dir, 'home');
  const service = await Service.start(home);
  try {
    const source = path.join(dir, 'source.db');
    const peerSource = path.join(dir, 'peer.db');
    const replica = path.join(dir, 'replica');
    await prepare(source, kind, mib);
    const instance = await service.register('source', source);
    const backups = { copy: [] as number[], ours: [] as number[] };
    for (let round = 0; round < ROUNDS; round++) {
      backups.copy.push(await copyFloor(source, path.join(dir, 'copy.db')));
      backups.ours.push(await service.backUp(instance));
    }
    await service.dropOlderBackups(instance);
    const peer = await Litestream.find();
    if (peer) {
      await cp(source, peerSource);
      await follow(peer, peerSource, replica, kind, mib);
    }
    await change(source, kind, mib);
    const times = { copy: [] as number[], hash: [] as number[], ours: [] as number[], peer: [] as number[] };
    const steps: Recovered['steps'][] = [];
    const memory: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      times.hash.push(await hashes.measure(path.join(home, 'storage')));
      await rest(mib);
      times.copy.push(await copyFloor(source, path.join(dir, 'copy.db')));
      let recovered: Recovered | undefined;
      await rest(mib);
      times.ours.push(
        await seconds(async () => {
          recovered = await service.recover(instance);
        }),
      );
      if (!recovered) continue;
      steps.push(recovered.steps);
      if (round === 0) await runProgram('cmp', [source, recovered.file]);
      await service.remove(recovered.instanceId);
      // Another one, since looking at the memory takes the processor's time, too.
      memory.push(
        await service.peakMemory(async () => {
          recovered = await service.recover(instance);
        }),
      );
      await service.remove(recovered.instanceId);
      if (!peer) continue;
      const output = path.join(dir, 'peer-restored.db');
      await rest(mib);
      times.peer.push(
        await seconds(async () => {
          await peer.restore(peerSource, replica, output);
          // What the service recovers is on disk when it says so.
          await runProgram('sync', [output]);
        }),
      );
      await rm(output);
    }
    const floor = times.copy.map((copy, round) => Math.max(copy, times.hash[round] ?? 0));
    console.log(`\n${kind}, ${mib} MiB and ${Math.round(mib * LOG_SHARE)} MiB of log, ${ROUNDS} rounds`);
    console.table({
      'cp + fsync': { seconds: spread(times.copy), 'of the floor': '' },
      'SHA-256 of what is stored': { seconds: spread(times.hash), 'of the floor': '' },
      recovery: { seconds: spread(times.ours), 'of the floor': spread(ratios(times.ours, floor)) },
      'old (Litestream 0.3.13) + fsync': {
        seconds: spread(times.peer),
        'of the floor': spread(ratios(times.peer, floor)),
      },
      'backup beside cp + fsync': {
        seconds: spread(backups.ours),
        'of the floor': spread(ratios(backups.ours, backups.copy)),
      },
    });
    const names = Object.keys(steps[0] ?? {});
    const ofSteps = names.map((name) => `${name} ${median(steps.map((each) => each[name] ?? 0)).toFixed(2)}`);
    console.log(`Steps, seconds: ${ofSteps.join(', ')}`);
    console.log(`Litestream takes ${spread(ratios(times.peer, times.ours))} times as long`);
    console.log(`Peak memory of service and engine (proportional set size), MiB: ${spread(memory, 0)}`);
  } finally {
    await service.stop();
    await hashes.close();
    remove();
  }
}

async function rest(mib: number): Promise<void> {
  await delay(REST_MS);
  await fillFreeMemory(FREE_SIZES * mib * MIB);
}

async function prepare(file: string, kind: Kind, mib: number): Promise<void> {
  const database = await Database.open(file, kind);
  await database.fill(mib * MIB);
  await database.close();
}

/** The log, after which the main file holds everything. */
async function change(file: string, kind: Kind, mib: number): Promise<void> {
  const database = await Database.open(file, kind);
  await database.change(mib * LOG_SHARE * MIB);
  await delay(SETTLE_MS);
  await database.checkpoint();
  await database.close();
}

/** The same for Litestream, whose process is gone afterwards. */
async function follow(peer: Litestream, file: string, replica: string, kind: Kind, mib: number): Promise<void> {
  const process = await peer.replicate(file, replica, 'default');
  await delay(SETTLE_MS);
  await change(file, kind, mib);
  await stop(process);
}
