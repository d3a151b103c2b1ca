// Runs the compiled tests with Node's own runner.
//   node scripts/test.mjs [--long] [part of a file name …]
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../dist/test', import.meta.url));
const words = process.argv.slice(2).filter((argument) => argument !== '--long');
const long = process.argv.includes('--long');

const files = readdirSync(root, { recursive: true })
  .filter((file) => file.endsWith('.test.js'))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort()
  .map((file) => `${root}/${file}`);
if (files.length === 0) {
  console.error(`No test file matches ${words.join(' ')}.`);
  process.exit(1);
}

const result = spawnSync(
  process.execPath,
  ['--enable-source-maps', '--test', '--test-reporter=spec', '--test-concurrency=2', ...files],
  { stdio: 'inherit', env: { ...process.env, ...(long ? { PITR_TEST_LONG: '1' } : {}) } },
);
process.exit(result.status ?? 1);
