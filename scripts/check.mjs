// What must hold before every commit, apart from the tests: types (by the build before), lint, format, layers, drift.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const structure = readdirSync(`${root}/dist/test/structure`)
  .filter((file) => file.endsWith('.test.js'))
  .map((file) => `${root}/dist/test/structure/${file}`);

const steps = [
  [`${root}/node_modules/@biomejs/biome/bin/biome`, 'check', '--error-on-warnings', root],
  ['--test', '--test-reporter=spec', ...structure, `${root}/dist/test/gateway/schema.test.js`],
];
for (const step of steps) {
  const { status } = spawnSync(process.execPath, step, { stdio: 'inherit', cwd: root });
  if (status !== 0) process.exit(status ?? 1);
}
