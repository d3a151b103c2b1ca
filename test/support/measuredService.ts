/**
 * The service's own wiring. When it gets SIGUSR2 it says how much memory is in use, after collecting garbage, which errors
 * it has logged, and how long it was deaf at most; of its log it writes only the line that says that it is ready.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { pino } from 'pino';
import { readConfig } from '../../src/config.js';
import { startService } from '../../src/main.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const delays = monitorEventLoopDelay({ resolution: 20 });
delays.enable();

const errors: string[] = [];
const log = {
  write(line: string) {
    const { level, msg } = JSON.parse(line) as { level: number; msg?: string };
    if (level >= 50) errors.push(line.slice(0, 4_000));
    if (msg?.startsWith('ready')) process.stdout.write(line);
  },
};

const started = startService(readConfig(process.env), pino({ level: 'info' }, log));
process.on('SIGUSR2', () => {
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  process.stdout.write(
    `${JSON.stringify({ msg: 'memory', bytes: heapUsed + external, errors, longestTurnMs: delays.max / 1e6 })}\n`,
  );
});
process.once('SIGTERM', () => void started.then((service) => service.stop()).then(() => process.exit(0)));
await started;
