/** A small application: writes one order after the other into a SQLite file until it is told to stop. */
import { setTimeout as delay } from 'node:timers/promises';
import { createOrders, execute, openDatabase, quoted } from './database.js';

const goods = ['tea', 'coffee', 'honey', 'bread', 'salt'];
const [, , file = '', table = ''] = process.argv;
const database = await openDatabase(file);
let running = true;
process.on('message', () => {
  running = false;
});
process.on('disconnect', () => process.exit(0));

await createOrders(database, table);
process.send?.('ready');
for (let number = 1; running; number += 1) {
  const good = goods[number % goods.length] ?? '';
  await execute(database, `INSERT INTO ${quoted(table)} (good, amount, ordered_at) VALUES (?, ?, ?)`, [
    good,
    1 + (number % 7),
    new Date().toISOString(),
  ]);
  await delay(2);
}
database.close(() => process.disconnect());
