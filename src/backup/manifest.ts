/**
 * A backup in storage: its parts and one manifest that lists them with their hashes. The manifest's own SHA-256 stands
 * in the catalog, so it vouches for the whole backup; with the manifest at hand no catalog is needed to read one.
 */
import { z } from 'zod';
import type { BackupFacts, ReadOptions, StoredBackup, StoredPart } from '../datastores/datastore.js';
import { Fault, type JsonObject } from '../errors.js';
import { type Instant, instant } from '../instant.js';
import type { StoredObject } from '../model.js';
import type { ObjectPipeline } from '../storage/pipeline.js';
import { type Passed, watched } from './archivedLog.js';
import { backupPrefix } from './objectKeys.js';

/** Raised whenever a reader of the older version could misread the newer one. */
const MANIFEST_VERSION = 1;

const HEX_256 = /^[0-9a-f]{64}$/;
const storedObject = z.object({
  key: z.string(),
  plainBytes: z.number().int().nonnegative(),
  storedBytes: z.number().int().nonnegative(),
  sha256: z.string().regex(HEX_256),
  blake3: z.string().regex(HEX_256).nullable().optional(),
});
const position = z.object({ stretch: z.string(), ordinal: z.number().int().nonnegative(), text: z.string() });
const manifestSchema = z.object({
  version: z.literal(MANIFEST_VERSION),
  instanceId: z.string(),
  backupId: z.string(),
  datastore: z.string(),
  facts: z.object({
    replayAfter: position,
    consistent: position,
    consistentAt: z
      .number()
      .int()
      .nonnegative()
      .transform((micros): Instant => instant(micros)),
    sizeBytes: z.number().int().nonnegative(),
    state: z.record(z.string(), z.json()).transform((state) => state as JsonObject),
  }),
  parts: z.array(storedObject),
});

export interface Manifest {
  instanceId: string;
  backupId: string;
  datastore: string;
  facts: BackupFacts;
  parts: StoredObject[];
}

export async function writeManifest(pipeline: ObjectPipeline, manifest: Manifest): Promise<StoredObject> {
  const text = JSON.stringify({ version: MANIFEST_VERSION, ...manifest });
  const key = `${backupPrefix(manifest.instanceId, manifest.backupId)}/manifest`;
  return pipeline.write(key, single(Buffer.from(text)));
}

/** @throws Fault BACKUP_CORRUPT, VERSION_MISMATCH, STORAGE_UNAVAILABLE */
export async function readManifest(
  pipeline: ObjectPipeline,
  object: StoredObject,
  signal?: AbortSignal,
): Promise<Manifest> {
  const chunks: Buffer[] = [];
  for await (const chunk of pipeline.read(object, 'BACKUP_CORRUPT', signal)) chunks.push(chunk);
  const parsed: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  const result = manifestSchema.safeParse(parsed);
  if (result.success) return result.data;
  throw new Fault('VERSION_MISMATCH', `The backup manifest ${object.key} has a form that this version does not know`, {
    hint: 'Use the release of pitr-gateway that wrote it, or a later one.',
    details: { object: object.key },
    cause: result.error,
  });
}

/** A backup as a datastore driver reads it. */
export function openBackup(
  pipeline: ObjectPipeline,
  manifest: Manifest,
  signal: AbortSignal,
  passed: Passed = () => {},
): StoredBackup {
  let offset = 0;
  const parts = manifest.parts.map((part) => {
    const opened: StoredPart = {
      offset,
      plainBytes: part.plainBytes,
      read: (options?: ReadOptions) => watched(pipeline.read(part, 'BACKUP_CORRUPT', signal, options), part, passed),
      pour: (sink, watch) => {
        const both = (plainBytes: number) => {
          passed(plainBytes, part);
          watch?.(plainBytes);
        };
        return pipeline.pour(part, 'BACKUP_CORRUPT', sink, { signal, passed: both });
      },
    };
    offset += part.plainBytes;
    return opened;
  });
  return { facts: manifest.facts, parts };
}

async function* single(buffer: Buffer): AsyncGenerator<Buffer> {
  yield buffer;
}
