/** A small application: writes one order after the other into a database until it is told to stop. */
import { setTimeout as delay } from 'node:timers/promises';
import { createOrders, insertOrder, openDatabase } from './database.js';

const goods = ['tea', 'coffee', 'honey', 'bread', 'salt'];
// Not in the argument list, which everybody on the machine can read: the URI may hold a password.
const database = await openDatabase(process.env.DATABASE_URI ?? '');
const [, , table = ''] = process.argv;
let running = true;
process.on('message', () => {
  running = false;
});
process.on('disconnect', () => process.exit(0));

await createOrders(database, table);
process.send?.('ready');
for (let number = 1; running; number += 1) {
  await insertOrder(database, table, number, goods[number % goods.length] ?? '');
  await delay(2);
}
await database.close();
process.disconnect();
