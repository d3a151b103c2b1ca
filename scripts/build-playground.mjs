// Bundles the playground into dist/playground: the page, the editor, and its three workers, with nothing left to load
// from elsewhere. Skipped when neither its sources nor the locked packages have changed since the last time.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const source = path.join(root, 'src/gateway/playground');
const target = path.join(root, 'dist/playground');

const WORKERS = {
  editor: 'monaco-editor/esm/vs/editor/editor.worker.js',
  json: 'monaco-editor/esm/vs/language/json/json.worker.js',
  graphql: 'monaco-graphql/esm/graphql.worker.js',
};

export async function buildPlayground() {
  const inputs = hashInputs();
  if (readIfThere(path.join(target, 'inputs.sha256')) === inputs) return;
  const { build } = await import('esbuild');

  // Finished somewhere else and renamed, so that a build that was cut off is never mistaken for a whole one.
  const scratch = `${target}.${process.pid}`;
  const shared = {
    absWorkingDir: root,
    bundle: true,
    minify: true,
    metafile: true,
    target: 'es2022',
    legalComments: 'none',
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'warning',
    entryNames: '[name]-[hash]',
    chunkNames: '[name]-[hash]',
    assetNames: '[name]-[hash]',
    outdir: path.join(scratch, 'assets'),
  };
  try {
    mkdirSync(path.join(scratch, 'assets'), { recursive: true });
    const workers = await build({ ...shared, entryPoints: Object.values(WORKERS), format: 'iife' });
    const urls = Object.fromEntries(Object.entries(WORKERS).map(([label, file]) => [label, urlOf(workers, file)]));
    const page = await build({
      ...shared,
      entryPoints: [path.join(source, 'main.js')],
      format: 'esm',
      splitting: true,
      define: { ...shared.define, WORKERS: JSON.stringify(urls) },
      loader: { '.graphql': 'text', '.json': 'text', '.ttf': 'file' },
    });
    const html = readFileSync(path.join(source, 'index.html'), 'utf8')
      .replace('STYLESHEET', urlOf(page, 'src/gateway/playground/main.js', 'cssBundle'))
      .replace('SCRIPT', urlOf(page, 'src/gateway/playground/main.js'));
    writeFileSync(path.join(scratch, 'index.html'), html);
    writeFileSync(path.join(scratch, 'inputs.sha256'), inputs);
    rmSync(target, { recursive: true, force: true });
    renameSync(scratch, target);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Where the server offers what became of an entry point: its script, or the stylesheet beside it. */
function urlOf({ metafile }, entry, kind = 'script') {
  const [file, output] =
    Object.entries(metafile.outputs).find(([, { entryPoint }]) => entryPoint?.endsWith(entry)) ?? [];
  const built = kind === 'cssBundle' ? output?.cssBundle : file;
  if (!built) throw new Error(`The bundle of ${entry} has no ${kind}`);
  return `/playground/${path.basename(built)}`;
}

function hashInputs() {
  const files = [
    fileURLToPath(import.meta.url),
    path.join(root, 'package-lock.json'),
    ...[source, path.join(root, 'examples/operations')].flatMap((folder) =>
      readdirSync(folder).map((file) => path.join(folder, file)),
    ),
  ];
  const hash = createHash('sha256');
  for (const file of files.sort())
    hash
      .update(`${path.relative(root, file)}\0`)
      .update(readFileSync(file))
      .update('\0');
  return hash.digest('hex');
}

function readIfThere(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}
