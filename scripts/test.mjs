// Runs the compiled tests with Node's own runner.
//   node scripts/test.mjs [--long] [part of a file name …]
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../dist/test', import.meta.url));
const words = process.argv.slice(2).filter((argument) => argument !== '--long');
const long = process.argv.includes('--long');

/** Files whose outages must be short enough for what is documented: beside a neighbour no service starts in time. */
const ALONE = ['end-to-end/outages.test.js'];

const all = readdirSync(root, { recursive: true }).filter((file) => file.endsWith('.test.js'));
const moved = ALONE.find((file) => !all.includes(file));
if (moved) throw new Error(`${moved} is to run alone and is not there`);
const files = all.filter((file) => words.length === 0 || words.some((word) => file.includes(word))).sort();
if (files.length === 0) {
  console.error(`No test file matches ${words.join(' ')}.`);
  process.exit(1);
}

const alone = files.filter((file) => ALONE.includes(file));
const others = files.filter((file) => !ALONE.includes(file));
// All of them run, also where the first ones fail.
const passed = [alone, others].map(passes);
process.exit(passed.every(Boolean) ? 0 : 1);

function passes(group) {
  if (group.length === 0) return true;
  const paths = group.map((file) => `${root}/${file}`);
  const options = ['--enable-source-maps', '--test', '--test-reporter=spec', '--test-concurrency=2'];
  const { status } = spawnSync(process.execPath, [...options, ...paths], {
    stdio: 'inherit',
    env: { ...process.env, ...(long ? { PITR_TEST_LONG: '1' } : {}) },
  });
  return status === 0;
}
