/**
 * Log that is committed and not captured yet, in the moments in which its protection changes hands: it is read later, or
 * its loss ends the generation. Steps between which others commit are stopped at, since they last microseconds.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, open, rename, rm, symlink, truncate, utimes } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { attachFollower } from '../../../src/datastores/sqlite/follower/attachFollower.js';
import type { AttachFrom } from '../../../src/datastores/sqlite/follower/attachPoint.js';
import type { ArchiveEnd, CaptureHost, SessionEvent } from '../../../src/datastores/sqlite/follower/captureTerms.js';
import type { WalFollower } from '../../../src/datastores/sqlite/follower/walFollower.js';
import { BrokenLog, WalFile } from '../../../src/datastores/sqlite/source/walFile.js';
import type { WalPins } from '../../../src/datastores/sqlite/source/walPins.js';
import { attachRequest } from '../../support/attachRequest.js';
import { scratchDir } from '../../support/scratch.js';
import { TestDatabase } from '../../support/sqliteDatabase.js';

/** What is stopped at. */
interface Inside {
  pins: Pick<WalPins, 'movePin' | 'checkpoint' | 'state' | 'copyBegunBeyond' | 'lockWrites'>;
  wal: Pick<WalFile, 'sync'>;
  reading: { read(...given: unknown[]): Promise<void> };
  writer: { flush(): Promise<void> };
}

interface Followed {
  application: TestDatabase;
  spool: string;
  host: CaptureHost;
  events: SessionEvent[];
  /** `beforeLook`: what others do between the attachment and its first look. */
  attach(from?: AttachFrom, beforeLook?: () => Promise<void>): Promise<{ follower: WalFollower; inside: Inside }>;
}

async function followed(t: TestContext): Promise<Followed> {
  const spool = await scratchDir(t);
  const file = path.join(spool, 'a.db');
  const application = await TestDatabase.open(file);
  t.after(() => application.close());
  await application.run('PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t (x)');
  await application.run('PRAGMA wal_checkpoint(TRUNCATE)');
  const request = attachRequest(file, spool);
  const events: SessionEvent[] = [];
  const host: CaptureHost = { emit: (event) => events.push(event), sync: async () => {} };
  return {
    application,
    spool,
    host,
    events,
    async attach(from = { known: null, gap: null, unwatched: null }, beforeLook = async () => {}) {
      const follower = await attachFollower(request, from, host);
      t.after(() => follower.close().catch(() => {}));
      await beforeLook();
      await follower.look();
      return { follower, inside: (follower as unknown as { followed: Inside }).followed };
    },
  };
}

/** Does `first` before the next call of a step. */
function before<K extends string, R>(
  of: Record<K, (...given: never[]) => Promise<R>>,
  step: K,
  first: () => Promise<void>,
) {
  const usual = of[step];
  of[step] = async (...given) => {
    of[step] = usual;
    await first();
    return await usual.apply(of, given);
  };
}

/** Another program that has a read transaction open. */
async function reading(t: TestContext, spool: string): Promise<TestDatabase> {
  const reader = await TestDatabase.open(path.join(spool, 'a.db'));
  t.after(() => reader.close());
  await reader.run('BEGIN; SELECT * FROM t');
  return reader;
}

/** A capture that had to let go when all of the log was copied and its second transaction was not read yet. */
async function letGoBeforeTheSecond(t: TestContext): Promise<Followed & { from: AttachFrom }> {
  const world = await followed(t);
  const { follower, inside } = await world.attach();
  await world.application.run("INSERT INTO t VALUES ('first')");
  before<'movePin', void>(inside.pins, 'movePin', () => world.application.run("INSERT INTO t VALUES ('second')"));
  await follower.look();
  await world.application.run('PRAGMA wal_checkpoint(PASSIVE)');
  before(inside.reading, 'read', () => Promise.reject(new Error('it cannot be read')));
  await assert.rejects(follower.look(), /cannot be read/);
  return { ...world, from: { known: await follower.abandon(), gap: null, unwatched: null } };
}

test('copied log that was not read is read by the next attachment, in the same generation', async (t) => {
  const { application, events, attach, from } = await letGoBeforeTheSecond(t);
  const { follower } = await attach(from);
  await application.run("INSERT INTO t VALUES ('third')");
  const { generation, ordinal } = await follower.fence();
  assert.deepEqual([generation, ordinal], [1, 3]);
  assert.equal(events.filter(({ type }) => type === 'stretch').length, 1);
});

test('where the log is restarted before that, the generation ends', async (t) => {
  const { application, attach, from } = await letGoBeforeTheSecond(t);
  // A writer that waited for the lock which attaching takes writes before the first look, and finds all of the log copied.
  const { follower } = await attach(from, () => application.run("INSERT INTO t VALUES ('third')")).catch((error) => {
    assert.ok(error instanceof BrokenLog, error);
    return { follower: null };
  });
  assert.equal(follower, null, 'the second is missing, and the generation went on');
});

/** A capture that let go after one transaction. `whileProving`: what others do while the next attachment reads its log. */
async function letGo(
  t: TestContext,
  whileProving: (world: Followed, known: ArchiveEnd) => Promise<void>,
  copying = '',
): Promise<Followed & { from: AttachFrom }> {
  const world = await followed(t);
  const { follower } = await world.attach();
  await world.application.run("PRAGMA busy_timeout=0; INSERT INTO t VALUES ('first')");
  await follower.look();
  await world.application.run(copying);
  await follower.look();
  const known = await follower.abandon();
  const usual = WalFile.prototype.frames;
  const proving = async function (this: WalFile, ...given: Parameters<WalFile['frames']>) {
    await usual.apply(this, given);
    await whileProving(world, known);
  };
  t.mock.method(WalFile.prototype, 'frames', proving, { times: 1 });
  return { ...world, from: { known, gap: null, unwatched: null } };
}

test('while an attachment proves a log others may write and copy, but not restart it', async (t) => {
  const { events, attach, from } = await letGo(t, async ({ application }) => {
    // Not over the page of the first: it would be left for a later copy.
    await application.run('CREATE TABLE second (x)');
    const [state] = await application.all('PRAGMA wal_checkpoint(RESTART)');
    assert.deepEqual([state?.busy, Number(state?.checkpointed) > 0], [1, true]);
  });
  const { follower } = await attach(from);
  const { generation, ordinal } = await follower.fence();
  assert.deepEqual([generation, ordinal], [1, 2]);
  assert.equal(events.filter(({ type }) => type === 'stretch').length, 1);
});

test('a log that is restarted while it is proved, because all of it was copied, is another one', async (t) => {
  const writes = ({ application }: Followed) => application.run("INSERT INTO t VALUES ('second')");
  const { attach, from } = await letGo(t, writes, 'PRAGMA wal_checkpoint(PASSIVE)');
  const { follower } = await attach(from);
  const { generation, ordinal } = await follower.fence();
  assert.deepEqual([generation, ordinal], [2, 1]);
});

const tampering: { what: string; act(file: string, known: ArchiveEnd): Promise<void> }[] = [
  {
    what: 'the last captured frame',
    async act(file, { continuation }) {
      assert.ok(continuation);
      const wal = await open(`${file}-wal`, 'r+');
      const sum = 32 + (continuation.frames - 1) * (24 + continuation.pageSize) + 16;
      await wal.write(Buffer.alloc(8), 0, 8, sum).finally(() => wal.close());
    },
  },
  // As far as the filesystem tells. Opening and closing it here would drop the locks of this process.
  { what: 'the file under the log', act: (file) => utimes(file, new Date(), new Date()) },
];
for (const { what, act } of tampering) {
  test(`something that is not SQLite writes to ${what} after that was proved: it is noticed`, async (t) => {
    const { attach, from } = await letGo(t, ({ spool }, known) => act(path.join(spool, 'a.db'), known));
    await assert.rejects(async () => (await attach(from)).follower.fence(), BrokenLog);
  });
}

test('log that was read and could not be saved stays protected, and nothing says that it is in the file', async (t) => {
  const { application, spool, attach } = await followed(t);
  const { follower, inside } = await attach();
  await application.run("INSERT INTO t VALUES ('first')");
  const { writer } = inside;
  const usual = writer.flush.bind(writer);
  writer.flush = () => Promise.reject(Object.assign(new Error('no space left'), { code: 'ENOSPC' }));
  for (let n = 0; n < 10; n++) {
    await assert.rejects(follower.look(), { code: 'ENOSPC' });
    await follower.noteIfAtRest();
    await delay(20);
  }
  await assert.rejects(
    follower.restart(1000, () => false),
    { code: 'ENOSPC' },
  );
  assert.equal(existsSync(path.join(spool, 'rest.json')), false);
  await application.run('PRAGMA busy_timeout=50');
  const [state] = await application.all('PRAGMA wal_checkpoint(RESTART)');
  assert.equal(state?.busy, 1, 'the log can be restarted under the capture');
  writer.flush = usual;
  assert.equal(await follower.restart(1000, () => false), 'restarted');
  await application.run("INSERT INTO t VALUES ('second')");
  const { generation, ordinal } = await follower.fence();
  assert.deepEqual([generation, ordinal], [1, 2]);
});

test('a program that is the first to copy the log is waited for, and the log restarted after it', async (t) => {
  const { application, attach } = await followed(t);
  const { follower, inside } = await attach();
  await application.run("INSERT INTO t VALUES ('first')");
  await follower.look();
  await application.run('INSERT INTO t VALUES (randomblob(32 << 20))');
  await follower.look();
  let copied: Promise<unknown> = Promise.resolve();
  before<'checkpoint', boolean>(inside.pins, 'checkpoint', async () => {
    const { copied: before = 0 } = (await inside.pins.state()) ?? {};
    copied = application.all('PRAGMA wal_checkpoint(PASSIVE)');
    for (let i = 0; !inside.pins.copyBegunBeyond(before) && i < 1000; i++) await delay(1);
  });
  assert.equal(await follower.restart(1000, () => false), 'restarted');
  await copied;
  await application.run("INSERT INTO t VALUES ('second')");
  const { generation, ordinal } = await follower.fence();
  assert.deepEqual([generation, ordinal], [1, 3]);
});

for (const { whose, spoil } of [
  // As where there are no descriptors left: it cannot be told what the note says, nor whether there is one.
  { whose: 'that cannot be read', spoil: (note: string) => symlink(path.basename(note), note) },
  { whose: 'that cannot be written', spoil: (note: string) => mkdir(`${note}.part`) },
]) {
  test(`an attachment with a note of the file ${whose} fails, and begins nothing anew`, async (t) => {
    const { application, events, spool, attach } = await followed(t);
    const { follower } = await attach();
    await application.run("INSERT INTO t VALUES ('first')");
    await follower.look();
    const from = { known: await follower.abandon(), gap: null, unwatched: null };
    const note = path.join(spool, 'main-file.json');
    await rename(note, `${note}.kept`);
    await spoil(note);
    const told = events.length;
    await assert.rejects(attach(from), { code: /^(ELOOP|EISDIR)$/ });
    assert.deepEqual(events.slice(told), []);
    await rm(note, { force: true });
    await rm(`${note}.part`, { recursive: true, force: true });
    await rename(`${note}.kept`, note);
    const { generation, ordinal } = await (await attach(from)).follower.fence();
    assert.deepEqual([generation, ordinal], [1, 1]);
  });
}

/** A capture with much log to copy, and an application that commits before that is copied, and so leaves some of it. */
async function leavingSome(t: TestContext, sync: (world: Followed, follower: WalFollower) => Promise<void>) {
  const world = await followed(t);
  const { follower, inside } = await world.attach();
  world.host.sync = () => sync(world, follower);
  await world.application.run("INSERT INTO t VALUES ('first')");
  await follower.look();
  await world.application.run('INSERT INTO t VALUES (randomblob(4 << 20))');
  await follower.look();
  before<'checkpoint', boolean>(inside.pins, 'checkpoint', () =>
    world.application.run("INSERT INTO t VALUES ('third')"),
  );
  return { ...world, follower, inside };
}

/** What a restart does from now on. */
function stepsOf({ pins, wal }: Inside): string[] {
  const steps: string[] = [];
  const telling = <K extends string, R>(of: Record<K, (...given: never[]) => Promise<R>>, step: K, told: string) => {
    const usual = of[step];
    of[step] = async (...given) => {
      const answer = await usual.apply(of, given);
      steps.push(told);
      return answer;
    };
  };
  telling<'sync', void>(wal, 'sync', 'log on disk');
  telling<'movePin', void>(pins, 'movePin', 'pin moved');
  telling<'checkpoint', boolean>(pins, 'checkpoint', 'copied');
  telling<'lockWrites', boolean>(pins, 'lockWrites', 'locked');
  return steps;
}

for (const { awaited, expected } of [
  { awaited: false, expected: ['log on disk', 'pin moved', 'copied', 'file on disk', 'locked'] },
  { awaited: true, expected: ['pin moved', 'copied', 'locked'] },
]) {
  const when = awaited ? 'where somebody waits for its end' : 'where nobody waits for its end';
  test(`a restart of the log, ${when}: ${expected.join(', ')}`, async (t) => {
    let steps: string[] = [];
    const { application, follower, inside } = await leavingSome(t, async () => {
      steps.push('file on disk');
    });
    steps = stepsOf(inside);
    assert.equal(await follower.restart(1000, () => awaited), 'restarted');
    assert.deepEqual(steps, expected);
    await application.run("INSERT INTO t VALUES ('fourth')");
    const { generation, ordinal } = await follower.fence();
    assert.deepEqual([generation, ordinal], [1, 4]);
  });
}

test('what a reader kept from being copied is copied beside the writers once that ends', async (t) => {
  const { application, spool, attach } = await followed(t);
  const { follower, inside } = await attach();
  await application.run("INSERT INTO t VALUES ('first')");
  await follower.look();
  const reader = await reading(t, spool);
  await application.run('INSERT INTO t VALUES (randomblob(4 << 20))');
  assert.equal(await follower.restart(1000, () => false), 'held by a reader');
  await reader.run('COMMIT');
  const steps = stepsOf(inside);
  assert.equal(await follower.restart(1000, () => false), 'restarted');
  assert.deepEqual(steps, ['log on disk', 'copied']);
  await application.run("INSERT INTO t VALUES ('third')");
  const { generation, ordinal } = await follower.fence();
  assert.deepEqual([generation, ordinal], [1, 3]);
});

test('what is committed while the disk is waited for is read meanwhile', async (t) => {
  let read = false;
  const { follower } = await leavingSome(t, async ({ application }, { logBytes: before }) => {
    await application.run("INSERT INTO t VALUES ('fourth')");
    for (let i = 0; follower.logBytes === before && i < 1000; i++) await delay(1);
    read = follower.logBytes > before;
  });
  assert.equal(await follower.restart(1000, () => false), 'restarted');
  assert.equal(read, true);
  const { generation, ordinal } = await follower.fence();
  assert.deepEqual([generation, ordinal], [1, 4]);
});

test('a disk that does not answer keeps nobody from noticing that the log broke', async (t) => {
  let answer = () => {};
  const { follower } = await leavingSome(t, async ({ application, spool }) => {
    await application.run("INSERT INTO t VALUES ('fourth')");
    await truncate(path.join(spool, 'a.db-wal'), 0);
    await new Promise<void>((resolve) => {
      answer = resolve;
    });
  });
  await assert.rejects(
    follower.restart(1000, () => false),
    BrokenLog,
  );
  answer();
});

test('a log that something else emptied under a firm pin ends the generation, also where nothing is committed after it', async (t) => {
  const { application, spool, attach } = await followed(t);
  const { follower } = await attach();
  await application.run("INSERT INTO t VALUES ('first')");
  await follower.look();
  await truncate(path.join(spool, 'a.db-wal'), 0);
  await assert.rejects(follower.onSlowPoll(), BrokenLog);
});

test('what is committed under a soft pin is read also where something else has spoilt the header of the log', async (t) => {
  const { application, spool, attach } = await followed(t);
  const { follower } = await attach();
  await application.run("INSERT INTO t VALUES ('first')");
  await follower.look();
  // It keeps the next writer from restarting the log.
  await reading(t, spool);
  await application.run('PRAGMA wal_checkpoint(PASSIVE)');
  await follower.look();
  await truncate(path.join(spool, 'a.db-wal'), 0);
  await application.run("INSERT INTO t VALUES ('second')");
  await follower.look();
  assert.equal((await follower.abandon()).ordinal, 2);
});
