/**
 * Makes a full backup of an older one and the log after it, on a server of the service's own that replays and shuts
 * itself down. Such a server stands at a restart point of the timeline that it replayed, and a recovery goes on from its
 * control file as a standby does after it was stopped.
 *
 * A restart point is a checkpoint of the source's that was replayed; everything is on disk up to where the server
 * stopped, but replay begins anew at the checkpoint's redo location. Where the log holds no checkpoint, nothing is won.
 */
import { rm } from 'node:fs/promises';
import { Fault, type JsonObject } from '../../../errors.js';
import type { BackupFacts, BackupSink, RollForwardRequest } from '../../datastore.js';
import { type BaseState, baseState, ROLLED_VERSION } from '../backup/backup.js';
import { PartMarks, partBytesOf } from '../backup/partMarks.js';
import { ControlFileError, readControlFile } from '../formats/controlFile.js';
import { formatLsn, positionAt, segmentFloor } from '../formats/lsn.js';
import { readRecords } from '../formats/segmentFormat.js';
import type { Binaries } from '../server/binaries.js';
import type { RunAs } from '../server/processes.js';
import { endLeftover, socketDirectory } from '../server/server.js';
import { archiveOf, trim } from './dataArchive.js';
import { replayUpToCut } from './replay.js';
import { restoreBase, scratchPlaces } from './restore.js';

/** @throws Fault as RollForwardDriver.make */
export async function rollForward(
  request: RollForwardRequest,
  sink: BackupSink,
  binaries: Binaries,
  runAs: RunAs | null,
): Promise<BackupFacts> {
  const { base, cut, scratch, signal } = request;
  const state = baseState(base.facts);
  const places = scratchPlaces(scratch);
  requireGain(await newestRedo(request), request, state);
  await restoreBase({ scratch, base, signal, target: { home: scratch } }, binaries, runAs);
  await replayUpToCut({ ...request, progress: { replayedTo: () => {} } }, binaries, runAs, 'shutdown');
  const redo = await provenRedo(places.data, request, state);
  requireGain(redo, request, state);
  await rm(places.feed, { recursive: true, force: true });
  await trim(places.data);
  const marks = new PartMarks(partBytesOf(base.facts.sizeBytes));
  let bytes = 0;
  async function* content(): AsyncIterable<Buffer> {
    for await (const chunk of archiveOf(places.data, signal)) {
      bytes += chunk.length;
      marks.push(chunk);
      yield chunk;
    }
  }
  await sink.write(content(), marks.partBytes);
  const { major, systemId, timeline, segmentSize, user, settings, history } = state;
  const rolled: BaseState = {
    version: ROLLED_VERSION,
    ...{ major, systemId, timeline, segmentSize, user, settings, history },
    startLsn: formatLsn(redo),
    // Its tablespaces are directories in it.
    archives: [{ tablespace: null, bytes }],
    starts: marks.noted,
  };
  return {
    replayAfter: positionAt(cut.position.stretch, segmentFloor(redo, segmentSize)),
    // Where the server stopped, and not what the control file calls the minimum recovery ending location, which can lie
    // before: a commit that changes no page moves it not, and is on disk in pg_xact all the same. A recovery that
    // stopped in between would have kept what it was to leave out.
    consistent: cut.position,
    consistentAt: request.at,
    sizeBytes: bytes,
    state: rolled as unknown as JsonObject,
  };
}

/** Ends what an earlier life of the service left running there. */
export async function discardRoll(scratch: string): Promise<void> {
  await endLeftover(scratchPlaces(scratch).data);
  await rm(socketDirectory(scratch), { recursive: true, force: true });
}

/** Of the newest checkpoint in the log up to the cut; null where it holds none. */
async function newestRedo({ segments, cut, signal }: RollForwardRequest): Promise<number | null> {
  let newest: number | null = null;
  for await (const segment of segments('newest-first')) {
    signal.throwIfAborted();
    await readRecords(
      segment,
      () => {},
      null,
      ({ end, redo }) => {
        if (end <= cut.position.ordinal) newest = redo;
      },
    );
    if (newest !== null) break;
  }
  return newest;
}

function requireGain(redo: number | null, { base }: RollForwardRequest, { segmentSize }: BaseState): void {
  if (redo !== null && segmentFloor(redo, segmentSize) > base.facts.replayAfter.ordinal) return;
  const message = 'The archived log holds no checkpoint by which a backup made of it would have less log to replay';
  throw new Fault('INSTANCE_NOT_READY', message, {
    hint: 'Try again when the server has made a checkpoint, after its checkpoint_timeout at the latest.',
  });
}

/**
 * Where a recovery from these files begins to replay, once the control file has said that they are what they have to be.
 * @throws Fault RECOVERY_INCOMPLETE
 */
async function provenRedo(
  data: string,
  { cut }: RollForwardRequest,
  { major, systemId, timeline }: BaseState,
): Promise<number> {
  const control = await readControlFile(data, major).catch((error: unknown) => {
    throw error instanceof ControlFileError ? wrong(error.message) : error;
  });
  const { minRecovery, backup } = control;
  if (control.state !== 'shut down in recovery') throw wrong(`its state is ${control.state}`);
  if (control.systemId !== systemId) throw wrong('it belongs to another cluster');
  if (control.timeline !== timeline) throw wrong('its timeline is another');
  if (minRecovery.timeline !== timeline) throw wrong('the end of its replay is on another timeline');
  // The end of the base backup lies behind.
  if (backup.start !== 0 || backup.end !== 0 || backup.endRequired) throw wrong('it is within its base backup');
  if (minRecovery.lsn === 0 || minRecovery.lsn > cut.position.ordinal) {
    throw wrong(`it must be replayed up to ${formatLsn(minRecovery.lsn)}`);
  }
  return control.redo;
}

function wrong(why: string): Fault {
  return new Fault('RECOVERY_INCOMPLETE', `No backup was made of the replayed log: ${why}`, {
    hint: 'Nothing was kept; the backup that it was to be made of serves as before.',
  });
}
