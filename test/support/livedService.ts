/**
 * The service with a machine's clock that the test sets, and captures that finish segments and restart logs often: much
 * happens to a small database. PITR_TEST_CLOCK names a file with the milliseconds by which the clock is wrong,
 * PITR_TEST_ENGINE an engine program with the same clock. Everything else is the service's own wiring.
 */
import { readFileSync } from 'node:fs';

const clockFile = process.env.PITR_TEST_CLOCK ?? '';
const rightly = Date.now;
class SetDate extends Date {
  constructor(...given: [] | [number | string | Date]) {
    super(given.length === 0 ? SetDate.now() : given[0]);
  }

  static override now(): number {
    return rightly() + Number(readFileSync(clockFile, 'utf8'));
  }
}
globalThis.Date = SetDate as DateConstructor;

// Whatever looks at the clock is loaded after it was set.
const [{ pino }, { readConfig }, { startService }, { requestFacts }] = await Promise.all([
  import('pino'),
  import('../../src/config.js'),
  import('../../src/main.js'),
  import('../../src/requestScope.js'),
]);
const started = startService(
  readConfig(process.env),
  pino({ level: process.env.LOG_LEVEL ?? 'info', mixin: requestFacts }),
  {
    sqlite: {
      capture: {
        restartBytes: 128 << 10,
        idleRestartBytes: 16 << 10,
        sealBytes: 256 << 10,
        sealAgeMs: 200,
        pollMs: 200,
        heldTellMs: 500,
      },
      engineProgram: process.env.PITR_TEST_ENGINE ?? '',
    },
  },
);
process.once('SIGTERM', () => void started.then((service) => service.stop()).then(() => process.exit(0)));
await started;
