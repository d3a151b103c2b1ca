// Compiles the TypeScript, assembles the WebAssembly and bundles the playground into dist/. Run by every npm script that needs dist/.
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildPlayground } from './build-playground.mjs';
import { buildWasm } from './build-wasm.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
// A file that was renamed or deleted must not live on as JavaScript; the bundled playground is kept.
for (const folder of ['src', 'migrations', 'test', 'bench', 'examples']) {
  rmSync(`${root}/dist/${folder}`, { recursive: true, force: true });
}
const tsc = spawnSync(process.execPath, [`${root}/node_modules/typescript/bin/tsc`, '-p', root], { stdio: 'inherit' });
if (tsc.status !== 0) process.exit(tsc.status ?? 1);
await buildWasm();
await buildPlayground();
