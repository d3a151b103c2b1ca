// Assembles the WebAssembly text below src/ into dist/src/, beside the modules that load it.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import startWabt from 'wabt';

const root = fileURLToPath(new URL('..', import.meta.url));

export async function buildWasm() {
  const wabt = await startWabt();
  for (const name of readdirSync(path.join(root, 'src'), { recursive: true })) {
    if (!name.endsWith('.wat')) continue;
    const program = wabt.parseWat(name, readFileSync(path.join(root, 'src', name), 'utf8'));
    try {
      program.validate();
      writeFileSync(path.join(root, 'dist/src', name.replace(/\.wat$/, '.wasm')), program.toBinary({}).buffer);
    } finally {
      program.destroy();
    }
  }
}
