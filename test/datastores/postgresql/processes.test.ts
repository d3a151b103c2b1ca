/** Child processes end with the service, even when it is killed; their words and time-outs reach the error. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { describe, test } from 'node:test';
import { resolveRunAs, run } from '../../../src/datastores/postgresql/server/processes.js';
import { requirement } from '../../support/requirement.js';
import { scratchDir } from '../../support/scratch.js';
import { processesOf } from '../../support/service.js';
import { until } from '../../support/sqlitePrograms.js';

const withoutSetpriv = requirement('setpriv', ['--pdeathsig', 'SIGINT', 'true'], 'it is part of util-linux');

describe('PostgreSQL: child processes', () => {
  test('a killed service leaves nothing running', { skip: withoutSetpriv }, async () => {
    const module = new URL('../../../src/datastores/postgresql/server/processes.js', import.meta.url).href;
    const service = spawn(process.execPath, [
      '--input-type=module',
      '-e',
      `const { launch } = await import(${JSON.stringify(module)});
       const child = launch('sh', ['-c', 'echo up; exec sleep 600'], { runAs: null });
       child.stdout.once('data', () => console.log(child.pid));
       setInterval(() => {}, 1000);`,
    ]);
    const [line] = await once(service.stdout, 'data');
    const child = Number(String(line).trim());
    assert.ok(existsSync(`/proc/${child}`));
    service.kill('SIGKILL');
    await once(service, 'exit');
    for (const end = Date.now() + 10_000; existsSync(`/proc/${child}`); ) {
      assert.ok(Date.now() < end, 'the child lives on');
      await new Promise((resolve) => setImmediate(resolve));
    }
  });

  test('a service that is killed while it starts a program leaves nothing running', {
    skip: withoutSetpriv,
  }, async (t) => {
    const module = new URL('../../../src/datastores/postgresql/server/processes.js', import.meta.url).href;
    const home = await scratchDir(t);
    // Without a look at the parent two or three of twenty lived on.
    for (let time = 0; time < 20; time++) {
      const service = spawn(process.execPath, [
        '--input-type=module',
        '-e',
        `const { launch } = await import(${JSON.stringify(module)});
         launch('sleep', ['600'], { runAs: null, gently: true, stdio: 'ignore', env: { HOME_OF_IT: ${JSON.stringify(home)} } });
         process.kill(process.pid, 'SIGKILL');`,
      ]);
      await once(service, 'exit');
    }
    await until('all have ended', () => processesOf(home).length === 0);
  });

  test('a failure and a time-out are told', async () => {
    const failing = run('sh', ['-c', 'echo the reason >&2; exit 3'], { runAs: null, timeoutMs: 10_000 });
    await assert.rejects(failing, /sh failed \(3\): the reason/);
    await assert.rejects(run('sleep', ['600'], { runAs: null, timeoutMs: 50 }), /sleep failed \(SIGKILL\)/);
    await assert.rejects(run('/nowhere/program', [], { runAs: null, timeoutMs: 10_000 }), /failed/);
  });

  test('what is launched gently has the lowest priority, and what it starts too', async () => {
    const [gentle, usual] = await Promise.all(
      [true, false].map((gently) => run('sh', ['-c', 'nice; sh -c nice'], { runAs: null, timeoutMs: 10_000, gently })),
    );
    assert.equal(gentle, '19\n19');
    assert.notEqual(usual, gentle);
  });

  test('what a program says is read to its end, also where that comes after the program’s own', async () => {
    const options = { runAs: null, timeoutMs: 10_000 };
    assert.equal(await run('sh', ['-c', '(sleep 0.3; echo late) & echo soon'], options), 'soon\nlate');
  });

  test('the service’s own PG* variables reach no tool', async () => {
    process.env.PGHOST = 'elsewhere';
    try {
      assert.equal(await run('sh', ['-c', 'echo "[$PGHOST]"'], { runAs: null, timeoutMs: 10_000 }), '[]');
    } finally {
      delete process.env.PGHOST;
    }
  });

  test('PostgreSQL’s user is never root', {
    skip: process.getuid?.() === 0 ? false : 'only where the service is root',
  }, () => {
    assert.throws(() => resolveRunAs('root'), { code: 'DATASTORE_NOT_SUPPORTED' });
    assert.throws(() => resolveRunAs('no-such-user'), { code: 'DATASTORE_NOT_SUPPORTED' });
    assert.deepEqual(resolveRunAs({ uid: 7, gid: 8 }), { uid: 7, gid: 8 });
  });
});
