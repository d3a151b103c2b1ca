/** Tar archives made by hand, as PostgreSQL makes them, or as it never would. */

export interface TarEntry {
  name: string;
  /** '0' for a file, which is the default; '5' for a directory. */
  kind?: string;
  content?: Buffer;
  mode?: number;
  link?: string;
  prefix?: string;
  /** Written over the header at last, its checksum being right for what was there before. */
  overwrite?: (header: Buffer) => void;
  /** Written over the header before its checksum is made. */
  change?: (header: Buffer) => void;
}

const END = Buffer.alloc(1024);

export function tarOf(entries: TarEntry[], end = END): Buffer {
  return Buffer.concat([...entries.flatMap(blocksOf), end]);
}

function blocksOf(entry: TarEntry): Buffer[] {
  const { name, kind = '0', content = Buffer.alloc(0), mode = 0o600, link = '', prefix = '' } = entry;
  const header = Buffer.alloc(512);
  const octal = (value: number, at: number, digits: number) => {
    header.write(value.toString(8).padStart(digits, '0'), at, 'latin1');
  };
  header.write(name, 0, 100, 'latin1');
  octal(mode, 100, 7);
  octal(0, 108, 7);
  octal(0, 116, 7);
  octal(content.length, 124, 11);
  octal(0, 136, 11);
  header.write(kind, 156, 1, 'latin1');
  header.write(link, 157, 100, 'latin1');
  header.write('ustar\u000000', 257, 'latin1');
  header.write(prefix, 345, 155, 'latin1');
  entry.change?.(header);
  header.fill(' ', 148, 156);
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  );
  header.writeUInt8(0, 154);
  entry.overwrite?.(header);
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512);
  return [header, content, padding];
}
