/** What is shipped may be used by anybody for anything: no package that runs in production says otherwise. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const permissive = ['MIT', 'ISC', '0BSD', 'BSD-2-Clause', 'BSD-3-Clause', 'Apache-2.0', 'BlueOak-1.0.0'];
const lock = JSON.parse(readFileSync(new URL('../../../package-lock.json', import.meta.url), 'utf8')) as {
  packages: Record<string, { license?: string; dev?: boolean }>;
};

/** `(MIT OR WTFPL)` is as good as MIT; of `(MIT AND X)` both count. */
function isPermissive(licence: string): boolean {
  const words = licence.replace(/[()]/g, '');
  if (words.includes(' OR ')) return words.split(' OR ').some(isPermissive);
  return words.split(' AND ').every((word) => permissive.includes(word));
}

test('every package that is shipped has a permissive licence', () => {
  const shipped = Object.entries(lock.packages).filter(([place, { dev }]) => place !== '' && !dev);
  assert.ok(shipped.length > 100);
  const others = shipped.filter(([, { license }]) => !isPermissive(license ?? 'none'));
  assert.deepEqual(
    others.map(([place, { license }]) => `${place}: ${license}`),
    [],
  );
});
