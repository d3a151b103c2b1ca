/** A source that lets the capture in and then says nothing more, as a server that is stopped by a signal. */
import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { SourceSession } from '../../../src/datastores/postgresql/source/sourceSession.js';
import { bareCapture } from '../../support/postgresql/bareCapture.js';
import { PlainArchive } from '../../support/postgresql/plainArchive.js';
import { ScriptedServer } from '../../support/postgresql/scriptedServer.js';
import { until } from '../../support/sqlitePrograms.js';

describe('PostgreSQL: a source that falls silent', { timeout: 120_000 }, () => {
  let server: ScriptedServer;
  let archive: PlainArchive;

  beforeEach(async () => {
    server = await ScriptedServer.start(() => null);
    archive = new PlainArchive(path.join(tmpdir(), 'never-made'));
  });

  afterEach(async () => {
    await server.close();
  });

  const capture = () => bareCapture(server.address, archive);

  test('its capture is stopped all the same', async () => {
    const begun = capture();
    await until('it asks who is there', () => server.asked.includes('IDENTIFY_SYSTEM'));
    await begun.stop();
    await until('its connections are gone', () => server.connections === 0);
  });

  test('is told of and asked anew', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const begun = capture();
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    while (!server.asked.includes('IDENTIFY_SYSTEM')) await turn();
    t.mock.timers.tick(60_000);
    while (archive.healths.length === 0) await turn();
    assert.equal(archive.healths[0]?.healthy, false);
    assert.match(archive.healths[0]?.message ?? '', /does not answer/);
    while (server.asked.filter((query) => query === 'IDENTIFY_SYSTEM').length < 2) {
      t.mock.timers.tick(100);
      await turn();
    }
    t.mock.timers.reset();
    await begun.stop();
  });

  test('its history is not waited for without an end', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const begun = capture();
    const asked = assert.rejects(begun.history(2), { code: 'DATASTORE_UNAVAILABLE' });
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    while (!server.asked.includes('TIMELINE_HISTORY 2')) await turn();
    t.mock.timers.tick(60_000);
    await asked;
    t.mock.timers.reset();
    await begun.stop();
  });

  test('what an ordinary connection waits for ends when it is closed, and nothing is begun on it any more', async () => {
    const session = new SourceSession(server.address, 'pitr_x');
    const waiting = [session.markCommit(), session.describe()].map((each) =>
      assert.rejects(each, { code: 'DATASTORE_UNAVAILABLE' }),
    );
    await until('it is asked', () => server.asked.length > 0);
    await session.close();
    await Promise.all(waiting);
    await assert.rejects(session.describe(), { code: 'DATASTORE_UNAVAILABLE' });
    await until('its connection is gone', () => server.connections === 0);
  });
});
