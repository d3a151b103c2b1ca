/** The files for TLS that a connection URI names. They are read anew for each connection, since certificates are renewed. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type Fault, invalidArgument } from '../../../errors.js';

/** Several times what all authorities take that a system comes with. */
const MOST_BYTES = 1024 * 1024;
/** Without O_NONBLOCK a pipe holds whoever opens it until somebody writes: one of the few threads that all files are read on. */
const FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/**
 * A whole file of at most a mebibyte.
 * @param parameter that names it in the URI
 * @throws Fault INVALID_ARGUMENT (connectionUri)
 */
export async function readTlsFile(parameter: string, file: string): Promise<Buffer> {
  try {
    const handle = await open(file, FLAGS);
    try {
      return await contentOf(handle);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw unusable(parameter, file, error);
  }
}

/** What it says of its size is not asked: files that the kernel makes up say nothing. */
async function contentOf(handle: FileHandle): Promise<Buffer> {
  if (!(await handle.stat()).isFile()) throw new Error('it is not a file');
  const chunks: Buffer[] = [];
  for await (const chunk of handle.createReadStream({ end: MOST_BYTES, autoClose: false })) chunks.push(chunk);
  const content = Buffer.concat(chunks);
  if (content.length > MOST_BYTES) throw new Error('it is larger than 1 MiB');
  return content;
}

const REASONS: Record<string, string> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file',
  EACCES: 'the service may not read it',
};

function unusable(parameter: string, file: string, cause: unknown): Fault {
  const { code = '', message } = cause as NodeJS.ErrnoException;
  return invalidArgument(
    'connectionUri',
    `The ${parameter} ${file} cannot be used: ${REASONS[code] ?? message}`,
    'Name a PEM file of at most 1 MiB that the service can read.',
  );
}
