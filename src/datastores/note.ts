/** Small files of JSON, each replaced as a whole. They are not synchronised to disk: a killed process loses none of them. */
import { readFile, rename, writeFile } from 'node:fs/promises';

export async function writeNote(file: string, content: object): Promise<void> {
  await writeFile(`${file}.part`, JSON.stringify(content), { mode: 0o600 });
  await rename(`${file}.part`, file);
}

/**
 * Null where there is none, or something else.
 * @throws Error where that cannot be told, such as for want of descriptors: what a note proves must not be taken for lost
 */
export async function readNote<T extends object>(file: string): Promise<T | null> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (error instanceof SyntaxError || ['ENOENT', 'EISDIR'].includes(code)) return null;
    throw error;
  }
}
