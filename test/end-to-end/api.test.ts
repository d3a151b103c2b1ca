/** Recoveries as a user does them, over HTTP, against the real service and real SQLite files. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  backUp,
  CUT,
  type Cut,
  createInstance,
  ended,
  fileOf,
  mark,
  marksOf,
  recover,
  startRecovery,
} from '../support/recoverable.js';
import { type GraphqlError, startService } from '../support/service.js';
import { until } from '../support/sqlitePrograms.js';

/** The same instant as a clock five and a half hours ahead of UTC shows it. */
function inIndia(instant: string): string {
  const seconds = new Date(Date.parse(`${instant.slice(0, 19)}Z`) + 19_800_000).toISOString().slice(0, 19);
  return `${seconds}${instant.slice(19, -1)}+05:30`;
}

test('any instant and any position between two changes brings back exactly what was there', async (t) => {
  const service = await startService(t);
  const instance = await createInstance(service, 'orders');
  const { consistentAt } = await backUp(service, instance.id);
  const first = await mark(service, instance, 'first');
  const second = await mark(service, instance, 'second');
  const third = await mark(service, instance, 'third');

  const cases: [Parameters<typeof startRecovery>[2], string[]][] = [
    [{ pointInTime: first.lastKeptAt }, ['first']],
    [{ pointInTime: inIndia(second.lastKeptAt) }, ['first', 'second']],
    [{ position: first.position }, ['first']],
    [{ position: second.position }, ['first', 'second']],
    [{ pointInTime: consistentAt }, []],
    [{}, ['first', 'second', 'third']],
  ];
  for (const [target, expected] of cases) {
    const { recoveryPlan } = await service.graphql<{ recoveryPlan: { plan: { cut: Cut; base: { id: string } } } }>(
      `query ($id: ID!, $pointInTime: DateTime, $position: String) {
        recoveryPlan(instanceId: $id, pointInTime: $pointInTime, position: $position) {
          plan { cut { ${CUT} } base { id } }
        }
      }`,
      { id: instance.id, ...target },
    );
    const started = await startRecovery(service, instance.id, target);
    assert.equal(started.plan.cut.position, recoveryPlan.plan.cut.position, 'the dry run decided the same');
    assert.deepEqual(started.plan.base, recoveryPlan.plan.base);
    const recovery = await ended(service, started.id);
    assert.equal(recovery.state, 'SUCCEEDED', JSON.stringify(recovery.error));
    assert.equal(recovery.recoveredTo?.position, started.plan.cut.position);
    assert.ok(recovery.instance);
    assert.equal(recovery.instance.state, 'ACTIVE');
    assert.deepEqual(await marksOf(recovery.instance), expected, JSON.stringify(target));
    assert.notEqual(fileOf(recovery.instance), fileOf(instance));
  }
  assert.deepEqual(await marksOf(instance), ['first', 'second', 'third'], 'the source is as it was');
  assert.notEqual(third.position, second.position);
});

test('what cannot be recovered to is refused alike by the dry run and the recovery, with what can', async (t) => {
  const service = await startService(t);
  const instance = await createInstance(service, 'orders');
  const { consistentAt } = await backUp(service, instance.id);
  const cases: [Record<string, string>, string, string][] = [
    [{ pointInTime: '2100-01-01T00:00:00Z' }, 'TARGET_TOO_LATE', 'latest'],
    [{ pointInTime: '2000-01-01T00:00:00Z' }, 'TARGET_TOO_EARLY', 'earliest'],
    [{ position: '1/4000000000' }, 'TARGET_TOO_LATE', 'latest'],
  ];
  for (const [target, code, bound] of cases) {
    const { recoveryPlan } = await service.graphql<{
      recoveryPlan: { plan: unknown; fault: { code: string; earliest: string; latest: string; hint: string } };
    }>(
      `query ($id: ID!, $pointInTime: DateTime, $position: String) {
        recoveryPlan(instanceId: $id, pointInTime: $pointInTime, position: $position) {
          plan { closestPointInTime } fault { code hint earliest latest }
        }
      }`,
      { id: instance.id, ...target },
    );
    assert.equal(recoveryPlan.plan, null);
    assert.equal(recoveryPlan.fault.code, code);
    assert.ok(recoveryPlan.fault.hint);
    await assert.rejects(startRecovery(service, instance.id, target), (error: GraphqlError) => {
      assert.equal(error.code, code);
      assert.ok(error.details[bound], `${code} says the ${bound}`);
      if (code === 'TARGET_TOO_EARLY') assert.equal(error.details.earliest, consistentAt);
      return true;
    });
  }
  const { recoveries } = await service.graphql<{ recoveries: unknown[] }>('{ recoveries { id } }');
  assert.deepEqual(recoveries, []);
});

test('the window of an idle database goes on', async (t) => {
  const service = await startService(t);
  const instance = await createInstance(service, 'idle');
  const { consistentAt } = await backUp(service, instance.id);
  const windows = async () => {
    const answer = await service.graphql<{ instance: { recoveryWindows: Record<string, string>[] } }>(
      'query ($id: ID!) { instance(id: $id) { recoveryWindows { from to startsBecause endsBecause } } }',
      { id: instance.id },
    );
    assert.equal(answer.instance.recoveryWindows.length, 1);
    return answer.instance.recoveryWindows[0] ?? {};
  };
  const first = await windows();
  assert.deepEqual(
    [first.from, first.startsBecause, first.endsBecause],
    [consistentAt, 'FIRST_BACKUP', 'LATEST_ARCHIVED'],
  );
  await until('the window has grown', async () => String((await windows()).to) > String(first.to));
  assert.equal((await windows()).from, consistentAt);
});

test('recovered and deleted instances can be recovered from', async (t) => {
  const service = await startService(t);
  const instance = await createInstance(service, 'orders');
  await backUp(service, instance.id);
  const first = await mark(service, instance, 'first');
  await mark(service, instance, 'second');

  const named = await recover(service, instance.id, { pointInTime: first.lastKeptAt, name: 'orders again' });
  assert.equal(named.name, 'orders again');
  await backUp(service, named.id);
  const ownMark = await mark(service, named, 'its own');
  const grandchild = await recover(service, named.id, { pointInTime: ownMark.lastKeptAt });
  assert.deepEqual(await marksOf(grandchild), ['first', 'its own']);
  assert.match(grandchild.name, /^orders again-recovered-\d{8}T\d{6}Z$/);

  await service.graphql('mutation ($id: ID!) { deleteInstance(id: $id) { state } }', { id: instance.id });
  const last = await recover(service, instance.id);
  assert.deepEqual(await marksOf(last), ['first', 'second']);
  const { instance: source } = await service.graphql<{
    instance: { state: string; endpoint: null; recoveryWindows: { endsBecause: string }[] };
  }>('query ($id: ID!) { instance(id: $id) { state endpoint recoveryWindows { endsBecause } } }', { id: instance.id });
  assert.deepEqual([source.state, source.endpoint], ['DELETED', null]);
  assert.deepEqual(source.recoveryWindows, [{ endsBecause: 'SOURCE_DELETED' }]);
});

test('two recoveries at once, and the same call twice', async (t) => {
  const service = await startService(t);
  const instance = await createInstance(service, 'orders');
  await backUp(service, instance.id);
  const first = await mark(service, instance, 'first');
  const second = await mark(service, instance, 'second');
  const [one, other, again] = await Promise.all([
    startRecovery(service, instance.id, { pointInTime: first.lastKeptAt, idempotencyKey: 'one' }),
    startRecovery(service, instance.id, { pointInTime: second.lastKeptAt }),
    startRecovery(service, instance.id, { pointInTime: inIndia(first.lastKeptAt), idempotencyKey: 'one' }),
  ]);
  assert.equal(again.id, one.id);
  const marks = [];
  for (const { id } of [one, other]) {
    const recovery = await ended(service, id);
    assert.ok(recovery.instance, JSON.stringify(recovery.error));
    marks.push(await marksOf(recovery.instance));
  }
  assert.deepEqual(marks, [['first'], ['first', 'second']]);
  await assert.rejects(startRecovery(service, instance.id, { pointInTime: second.lastKeptAt, idempotencyKey: 'one' }), {
    code: 'IDEMPOTENCY_CONFLICT',
  });
});

test('backups come closest first, and every list in pages', async (t) => {
  const service = await startService(t);
  const instance = await createInstance(service, 'orders');
  const taken = [];
  for (let count = 0; count < 3; count += 1) taken.push(await backUp(service, instance.id));
  const newestFirst = taken.map(({ id }) => id).reverse();
  const list = async (query: string, variables: Record<string, unknown>) => {
    const answer = await service.graphql<Record<string, { id: string }[]>>(query, variables);
    return (Object.values(answer)[0] ?? []).map(({ id }) => id);
  };
  const backups =
    'query ($id: ID!, $before: DateTime, $first: Int! = 50, $after: ID) { backups(instanceId: $id, before: $before, first: $first, after: $after) { id } }';
  const { id } = instance;
  assert.deepEqual(await list(backups, { id }), newestFirst);
  assert.deepEqual(await list(backups, { id, before: taken[1]?.consistentAt }), newestFirst.slice(1));
  assert.deepEqual(await list(backups, { id, before: '2000-01-01T00:00:00Z' }), []);

  for (let count = 0; count < 2; count += 1) await recover(service, id);
  const recoveries = 'query ($first: Int! = 50, $after: ID) { recoveries(first: $first, after: $after) { id } }';
  const instances = 'query ($first: Int! = 50, $after: ID) { instances(first: $first, after: $after) { id } }';
  for (const [query, length] of [
    [backups, 3],
    [recoveries, 2],
    [instances, 3],
  ] as const) {
    const all = await list(query, { id });
    assert.equal(all.length, length);
    const paged: string[] = [];
    for (let after: string | null = null; ; ) {
      const page = await list(query, { id, first: 1, after });
      if (page[0] === undefined) break;
      assert.equal(page.length, 1);
      paged.push(page[0]);
      after = page[0];
    }
    assert.deepEqual(paged, all);
  }
});
