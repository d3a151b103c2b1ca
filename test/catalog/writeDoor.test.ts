/** The write door: one transaction after another, acknowledged only when durable, and no way around it. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Catalog, CatalogWriter } from '../../src/catalog/records.js';
import { anInstance, at, scratchCatalog } from './examples.js';

const everyone = { tenantId: 'tenant', includeDeleted: true };

async function stored(catalog: Catalog): Promise<string[]> {
  return (await catalog.read.instances(everyone, { first: 1000, after: null })).map(({ id }) => id).sort();
}

/** A promise and the function that fulfils it. */
function signal(): { given: Promise<void>; give: () => void } {
  let give: () => void = () => undefined;
  const given = new Promise<void>((resolve) => {
    give = resolve;
  });
  return { given, give };
}

describe('the write door', () => {
  test('five concurrent transactions all succeed, in the order of the calls', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const order: string[] = [];
    const answers = await Promise.all(
      [1, 2, 3, 4, 5].map((n) =>
        catalog.write(async (writer) => {
          order.push(`begin ${n}`);
          await writer.insertInstance(anInstance({ id: `a${n}` }));
          await writer.insertInstance(anInstance({ id: `b${n}` }));
          order.push(`end ${n}`);
          return n;
        }),
      ),
    );
    assert.deepEqual(answers, [1, 2, 3, 4, 5]);
    assert.deepEqual(
      order,
      [1, 2, 3, 4, 5].flatMap((n) => [`begin ${n}`, `end ${n}`]),
    );
    assert.equal((await stored(catalog)).length, 10);
  });

  test("a change made during somebody else's transaction survives that one's rollback", async (t) => {
    const { catalog } = await scratchCatalog(t);
    const opened = signal();
    const proceed = signal();
    const doomed = catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'doomed' }));
      opened.give();
      await proceed.given;
      throw new Error('changed its mind');
    });
    await opened.given;
    const kept = catalog.write((writer) => writer.insertInstance(anInstance({ id: 'kept' })));
    proceed.give();
    await assert.rejects(doomed, /changed its mind/);
    await kept;
    assert.deepEqual(await stored(catalog), ['kept']);
  });

  test('of 200 concurrent writes of which every third throws, exactly the others are there', async (t) => {
    const { catalog, reopen } = await scratchCatalog(t);
    const name = (n: number) => `i${String(n).padStart(3, '0')}`;
    const numbers = Array.from({ length: 200 }, (_, n) => n);
    const results = await Promise.allSettled(
      numbers.map((n) =>
        catalog.write(async (writer) => {
          await writer.insertInstance(anInstance({ id: name(n) }));
          if (n % 3 === 0) throw new Error('every third');
        }),
      ),
    );
    const expected = numbers.filter((n) => n % 3 !== 0).map(name);
    assert.deepEqual(numbers.filter((n) => results[n]?.status === 'fulfilled').map(name), expected);
    assert.deepEqual(await stored(catalog), expected);
    assert.deepEqual(await stored(await reopen()), expected);
  });

  test('reads go on while a transaction is open and see the state before it', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await catalog.write((writer) => writer.insertInstance(anInstance({ id: 'i', name: 'before' })));
    await catalog.write(async (writer) => {
      await writer.updateInstance('i', { name: 'after' });
      assert.equal((await writer.instance('i'))?.name, 'after');
      assert.equal((await catalog.read.instance('i'))?.name, 'before');
    });
    assert.equal((await catalog.read.instance('i'))?.name, 'after');
  });

  test('a write inside a write is refused at once; after the outer one it is not', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const insert = (id: string) => catalog.write((writer) => writer.insertInstance(anInstance({ id })));
    const outerEnded = signal();
    let later: Promise<void> = Promise.resolve();
    await catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'outer' }));
      await assert.rejects(insert('inner'), { code: 'INTERNAL', message: /inside another/ });
      // What was started inside but runs on afterwards may write again.
      later = outerEnded.given.then(() => insert('later'));
    });
    outerEnded.give();
    await later;
    assert.deepEqual(await stored(catalog), ['later', 'outer']);
  });

  test('a writer that outlived its transaction is refused, whether that one succeeded or failed', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const kept: CatalogWriter[] = [];
    await catalog.write(async (writer) => {
      kept.push(writer);
    });
    const failed = catalog.write(async (writer) => {
      kept.push(writer);
      throw new Error('no');
    });
    await assert.rejects(failed, /no/);
    for (const writer of kept) {
      const ended = { code: 'INTERNAL', message: /after its transaction had ended/ };
      await assert.rejects(writer.insertInstance(anInstance({ id: 'late' })), ended);
      await assert.rejects(writer.instance('late'), ended);
    }
    assert.deepEqual(await stored(catalog), []);
  });

  test('a transaction that does not wait for its own change is rolled back and says so', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const forgetful = catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'a' }));
      void writer.insertInstance(anInstance({ id: 'b' }));
    });
    await assert.rejects(forgetful, { code: 'INTERNAL', message: /before 1 of its calls did/ });
    assert.deepEqual(await stored(catalog), []);
  });

  test('a change that fails inside a Promise.all leaves none of the others behind', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const attempt = catalog.write((writer) =>
      Promise.all([
        writer.insertInstance(anInstance({ id: 'a' })),
        writer.updateInstance('unknown', { name: 'x' }),
        writer.insertInstance(anInstance({ id: 'b' })),
      ]),
    );
    await assert.rejects(attempt, /no Instance unknown/);
    assert.deepEqual(await stored(catalog), []);
    await catalog.write((writer) => writer.insertInstance(anInstance({ id: 'c', createdAt: at(1) })));
    assert.deepEqual(await stored(catalog), ['c']);
  });

  test('close lets what was accepted finish and refuses what comes after', async (t) => {
    const { catalog, reopen } = await scratchCatalog(t);
    const accepted = [1, 2, 3].map((n) =>
      catalog.write((writer) => writer.insertInstance(anInstance({ id: `i${n}` }))),
    );
    const reading = catalog.read.segmentTotals('s', { after: 0, last: 1 });
    const closing = catalog.close();
    const closed = { code: 'INTERNAL', message: /closed/ };
    await assert.rejects(
      catalog.write(async () => undefined),
      closed,
    );
    await assert.rejects(catalog.read.instance('i1'), closed);
    await Promise.all([...accepted, reading, closing, catalog.close()]);
    assert.deepEqual(await stored(await reopen()), ['i1', 'i2', 'i3']);
  });
});
