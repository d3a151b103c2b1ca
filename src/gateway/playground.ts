/** Serves the bundled playground at /, under a policy that lets it load and call nothing but this service. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FastifyInstance } from 'fastify';

/** Where scripts/build-playground.mjs puts it, seen from dist/src/gateway/. */
const FOLDER = fileURLToPath(new URL('../../playground/', import.meta.url));

/** Monaco writes style attributes and style elements; everything else comes from files of our own. */
export const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "worker-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "font-src 'self' data:",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const TYPES: Record<string, string> = {
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.ttf': 'font/ttf',
};

/** Only files that were there at the start are ever served, by exact name. */
export async function servePlayground(app: FastifyInstance): Promise<void> {
  const assets = new Set((await readdir(path.join(FOLDER, 'assets')).catch(() => [])).filter(isAsset));
  const page = await readFile(path.join(FOLDER, 'index.html')).catch(() => null);
  const etag = page && `"${createHash('sha256').update(page).digest('base64url')}"`;

  app.get('/', async (request, reply) => {
    if (!page) return reply.code(404).send('The playground is not built: run npm run build. GraphQL is at /graphql.\n');
    reply.header('content-security-policy', POLICY).header('etag', etag).header('cache-control', 'no-cache');
    if (request.headers['if-none-match'] === etag) return reply.code(304).send();
    return reply.type('text/html; charset=utf-8').send(page);
  });

  app.get<{ Params: { file: string } }>('/playground/:file', async (request, reply) => {
    const { file } = request.params;
    if (!assets.has(file)) return reply.callNotFound();
    // A worker obeys the policy of its own script. Names carry a hash of the content, so they can be kept for ever.
    reply.header('content-security-policy', POLICY).header('cache-control', 'public, max-age=31536000, immutable');
    return reply.type(TYPES[path.extname(file)] ?? '').send(createReadStream(path.join(FOLDER, 'assets', file)));
  });
}

function isAsset(file: string): boolean {
  return path.extname(file) in TYPES;
}
