/** The SQLite driver's engine process with a clock that can be set: it is wrong by what a file says. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * Answers with a program to give to the driver. The file holds milliseconds, zero or less: a clock that is ahead of the
 * filesystem's would make young files look old.
 */
export async function skewedEngine(dir: string, clockFile: string): Promise<string> {
  const engine = new URL('../../src/datastores/sqlite/engine/engineProcess.js', import.meta.url);
  const program = path.join(dir, 'engine.mjs');
  await writeFile(
    program,
    `import { readFileSync } from 'node:fs';
const rightly = Date.now;
Date.now = () => rightly() + Number(readFileSync(${JSON.stringify(clockFile)}, 'utf8'));
await import(${JSON.stringify(engine.href)});
`,
  );
  return program;
}
