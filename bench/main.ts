/** Runs the benchmarks named on the command line: `npm run bench -- pipeline`. */

const BENCHMARKS: Record<string, () => Promise<{ run: () => Promise<void> }>> = {
  authentication: () => import('./authentication.js'),
  federation: () => import('./federation.js'),
  pipeline: () => import('./pipeline.js'),
  many: () => import('./many.js'),
  planning: () => import('./planning.js'),
  sqlite: () => import('./sqlite.js'),
  postgresql: () => import('./postgresql.js'),
  trove: () => import('./trove.js'),
};

const names = process.argv.slice(2);
const unknown = names.filter((name) => !Object.hasOwn(BENCHMARKS, name));
if (names.length === 0 || unknown.length > 0) {
  for (const name of unknown) console.error(`There is no benchmark ${name}.`);
  console.error(`Usage: npm run bench -- NAME…   where NAME is one of: ${Object.keys(BENCHMARKS).join(', ')}`);
  process.exitCode = 2;
} else {
  for (const name of names) await (await BENCHMARKS[name]?.())?.run();
}
