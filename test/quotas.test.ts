/** Quotas: the decision, the counting, and that no two callers slip through together. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fault } from '../src/errors.js';
import { checkQuotas, limitsAny, type QuotaName, type Quotas } from '../src/quotas.js';
import { aBackup, anInstance, aRecovery, at, scratchCatalog } from './catalog/examples.js';
import { type Body, serviceUnderTest, untilState } from './support/serviceUnderTest.js';

const unlimited: Quotas = { instances: null, volumeSizeGiB: null, backups: null, recoveries: null };
const nothing = { instances: 0, volumeSizeGiB: 0, backups: 0, recoveries: 0 };

test('what fits is let through, to the last one; what does not is refused with the numbers', () => {
  const full = { instances: 5, volumeSizeGiB: 100, backups: 5, recoveries: 5 };
  const one = { instances: 1, volumeSizeGiB: 10, backups: 1, recoveries: 1 };
  const cases: [
    quotas: Partial<Quotas>,
    used: Partial<typeof full>,
    wanted: Partial<typeof full>,
    refused: QuotaName | null,
  ][] = [
    [{}, full, one, null],
    [{ instances: 6 }, full, one, null],
    [{ instances: 5 }, full, one, 'instances'],
    [{ instances: 0 }, {}, one, 'instances'],
    [{ volumeSizeGiB: 110 }, full, one, null],
    [{ volumeSizeGiB: 109 }, full, one, 'volumeSizeGiB'],
    [{ volumeSizeGiB: 50 }, full, { instances: 1, volumeSizeGiB: 0 }, null],
    [{ backups: 1 }, full, { recoveries: 1 }, null],
    [{ backups: 5 }, full, one, 'backups'],
    [{ recoveries: 5 }, full, one, 'recoveries'],
  ];
  for (const [quotas, used, wanted, refused] of cases) {
    const check = () => checkQuotas({ ...unlimited, ...quotas }, { ...nothing, ...used }, wanted);
    if (refused === null) {
      check();
      continue;
    }
    assert.throws(check, (fault: Fault) => {
      assert.deepEqual([fault.code, fault.retryable], ['QUOTA_EXCEEDED', true]);
      assert.deepEqual(fault.details, {
        quota: refused,
        limit: quotas[refused],
        used: { ...nothing, ...used }[refused],
      });
      assert.ok(fault.hint);
      return fault instanceof Fault;
    });
  }
  assert.equal(limitsAny(unlimited), false);
  assert.equal(limitsAny({ ...unlimited, backups: 0 }), true);
});

test('the catalog counts what is there, what is promised, and nothing of others', async (t) => {
  const { catalog } = await scratchCatalog(t);
  const tenantId = 'counted';
  assert.deepEqual(await catalog.read.usage(tenantId), nothing);
  await catalog.write(async (writer) => {
    await writer.insertInstance(anInstance({ id: 'a', tenantId, volumeSizeGiB: 7, identity: 'a' }));
    await writer.insertInstance(anInstance({ id: 'b', tenantId, volumeSizeGiB: null, identity: 'b' }));
    await writer.insertInstance(
      anInstance({ id: 'gone', tenantId, identity: null, state: 'DELETED', deletedAt: at(9) }),
    );
    await writer.insertInstance(anInstance({ id: 'x', tenantId: 'other', volumeSizeGiB: 99, identity: 'x' }));
    await writer.insertBackup(aBackup({ id: 'of-a', instanceId: 'a', state: 'RUNNING', stretchId: null }));
    await writer.insertBackup(aBackup({ id: 'of-gone', instanceId: 'gone', state: 'RUNNING', stretchId: null }));
    await writer.insertBackup(aBackup({ id: 'deleted', instanceId: 'a', state: 'DELETED', stretchId: null }));
    await writer.insertBackup(aBackup({ id: 'of-x', instanceId: 'x', state: 'RUNNING', stretchId: null }));
    for (const [id, state, targetId] of [
      ['waits', 'QUEUED', null],
      ['begins', 'RUNNING', null],
      ['made', 'RUNNING', 'b'],
      ['unwinds', 'UNWINDING', null],
      ['over', 'CANCELLED', null],
    ] as const) {
      await writer.insertRecovery(
        aRecovery({
          id,
          tenantId,
          sourceId: 'a',
          targetId,
          state,
          finishedAt: state === 'CANCELLED' ? at(9) : null,
        }),
        [],
      );
    }
    await writer.insertRecovery(aRecovery({ id: 'other', tenantId: 'other', sourceId: 'x', state: 'QUEUED' }), []);
  });
  // Two instances and two that waiting recoveries will make; 7 GiB of the one that has a size, and twice the same.
  assert.deepEqual(await catalog.read.usage(tenantId), { instances: 4, volumeSizeGiB: 21, backups: 2, recoveries: 3 });
});

test('callers who come together get exactly what is left', async (t) => {
  const service = await serviceUnderTest(t, ['alpha', 'beta'], {
    PITR_QUOTA_INSTANCES: '4',
    PITR_QUOTA_VOLUME_GIB: '40',
    PITR_QUOTA_BACKUPS: '3',
  });
  const create = (tenant: string, size: number) =>
    service.ask(
      tenant,
      `mutation { createInstance(input: { name: "n", datastore: "sqlite", volumeSizeGiB: ${size} }) { id } }`,
    );
  const refusal = ({ errors }: Body) =>
    errors ? { code: errors[0]?.extensions.code, ...errors[0]?.extensions.details } : null;

  const first = await create('alpha', 10);
  const { id } = (first.data?.createInstance ?? {}) as { id: string };
  assert.deepEqual(refusal(await create('alpha', 31)), {
    code: 'QUOTA_EXCEEDED',
    quota: 'volumeSizeGiB',
    limit: 40,
    used: 10,
  });

  const take = () => service.ask('alpha', `mutation { takeBackup(instanceId: "${id}") { id } }`);
  const backups = await Promise.all(Array.from({ length: 8 }, take));
  const refusedBackups = backups.map(refusal).filter((each) => each !== null);
  assert.equal(backups.length - refusedBackups.length, 3);
  for (const each of refusedBackups)
    assert.deepEqual(each, { code: 'QUOTA_EXCEEDED', quota: 'backups', limit: 3, used: 3 });
  const taken = backups.flatMap(({ data }) => (data ? [(data.takeBackup as { id: string }).id] : []));
  for (const each of taken) await untilState(service, 'alpha', `{ backup(id: "${each}") { state } }`, ['COMPLETED']);

  const recover = () => service.ask('alpha', `mutation { recoverInstance(instanceId: "${id}") { id } }`);
  const recoveries = await Promise.all([
    ...Array.from({ length: 6 }, recover),
    ...Array.from({ length: 3 }, () => create('alpha', 10)),
  ]);
  assert.equal(recoveries.filter(({ data }) => data).length, 3, 'three of the four are left');
  for (const each of recoveries.map(refusal).filter((one) => one !== null)) {
    assert.deepEqual(each, { code: 'QUOTA_EXCEEDED', quota: 'instances', limit: 4, used: 4 });
  }
  for (const { data } of recoveries) {
    const { id: started } = (data?.recoverInstance ?? {}) as { id?: string };
    if (started) await untilState(service, 'alpha', `{ recovery(id: "${started}") { state } }`, ['SUCCEEDED']);
  }
  const { data: all } = await service.ask('alpha', '{ instances { id } }');
  assert.equal(((all?.instances ?? []) as unknown[]).length, 4);

  const plan = `{ recoveryPlan(instanceId: "${id}") { plan { logBytes } fault { code details } } }`;
  const { data: dry } = await service.ask('alpha', plan);
  assert.deepEqual(dry?.recoveryPlan, {
    plan: null,
    fault: { code: 'QUOTA_EXCEEDED', details: { quota: 'instances', limit: 4, used: 4 } },
  });
  // What one tenant has used takes nothing from another, and what is deleted is free again.
  assert.equal(refusal(await create('beta', 40)), null);
  await service.ask('alpha', `mutation { deleteBackup(id: "${taken[0]}") { id } }`);
  assert.equal(refusal(await take()), null);
});

test('a repeated call with the same idempotency key is answered, whatever the quota', async (t) => {
  const service = await serviceUnderTest(t, ['alpha'], { PITR_QUOTA_INSTANCES: '2', PITR_QUOTA_RECOVERIES: '1' });
  const { data } = await service.ask(
    'alpha',
    'mutation { createInstance(input: { name: "n", datastore: "sqlite" }) { id } }',
  );
  const { id } = (data?.createInstance ?? {}) as { id: string };
  const taken = await service.ask('alpha', `mutation { takeBackup(instanceId: "${id}") { id } }`);
  const { id: backupId } = (taken.data?.takeBackup ?? {}) as { id: string };
  await untilState(service, 'alpha', `{ backup(id: "${backupId}") { state } }`, ['COMPLETED']);
  const recover = () =>
    service.ask('alpha', `mutation { recoverInstance(instanceId: "${id}", idempotencyKey: "k") { id } }`);
  const answers = await Promise.all(Array.from({ length: 5 }, recover));
  answers.push(await recover());
  assert.equal(
    new Set(answers.map(({ data: each }) => (each?.recoverInstance as { id: string } | undefined)?.id)).size,
    1,
  );
  const { id: recoveryId } = (answers[0]?.data?.recoverInstance ?? {}) as { id: string };
  await untilState(service, 'alpha', `{ recovery(id: "${recoveryId}") { state } }`, ['SUCCEEDED']);
});
