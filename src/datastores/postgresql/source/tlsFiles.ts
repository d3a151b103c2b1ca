/** The files for TLS that a connection URI names. They are read anew for each connection, since certificates are renewed. */
import { type FileHandle, open, readlink, realpath } from 'node:fs/promises';
import { type Fault, invalidArgument } from '../../../errors.js';
import { foreignFileFlags } from '../../foreignFile.js';

/** Several times what all authorities take that a system comes with. */
const MOST_BYTES = 1024 * 1024;

/** Where a file really is, with all links followed; null where whoever names it may not have the service read it. */
export type FileRule = (file: string) => Promise<string | null>;

/**
 * A whole file of at most a mebibyte. Links are followed, since a certificate is often renewed by turning one; but whoever may
 * write to the file's directory can turn one to a file that is not theirs, so the rule is asked each time, and holds
 * for the very file that is read.
 * @param parameter that names it in the URI
 * @throws Fault INVALID_ARGUMENT (connectionUri)
 */
export async function readTlsFile(parameter: string, file: string, rule: FileRule = realpath): Promise<Buffer> {
  try {
    const real = await rule(file);
    if (real === null) throw new Error('it is, or leads to, where files may not be registered from');
    const handle = await open(real, foreignFileFlags);
    try {
      if ((await pathOf(handle, real)) !== real) throw new Error('it was replaced while it was opened');
      return await contentOf(handle);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw unusable(parameter, file, error);
  }
}

/** Where an open file is: a directory on the way may have become a link since it was looked at. */
async function pathOf(handle: FileHandle, opened: string): Promise<string> {
  // The kernel's own word; on systems that have none, a second look.
  return await readlink(`/proc/self/fd/${handle.fd}`).catch(() => realpath(opened));
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
  ELOOP: 'a link stands there',
};

function unusable(parameter: string, file: string, cause: unknown): Fault {
  const { code = '', message } = cause as NodeJS.ErrnoException;
  return invalidArgument(
    'connectionUri',
    `The ${parameter} ${file} cannot be used: ${REASONS[code] ?? message}`,
    'Name a PEM file of at most 1 MiB that the service can read, where its operator allows files (PITR_REGISTER_FILES).',
  );
}
