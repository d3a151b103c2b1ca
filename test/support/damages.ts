/** What can happen to a stored object's file. */
import { appendFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';

export const damages = {
  'first byte': (file: string) => flip(file, () => 0),
  'last byte': (file: string) => flip(file, (size) => size - 1),
  'random bytes': (file: string, random: () => number) => {
    for (let i = 0; i < 3; i += 1) flip(file, (size) => Math.floor(random() * size));
  },
  'cut short': (file: string, random: () => number) =>
    truncateSync(file, Math.floor(random() * readFileSync(file).length)),
  extended: (file: string) => appendFileSync(file, 'x'),
  deleted: (file: string) => rmSync(file),
};
export type Damage = keyof typeof damages;

function flip(file: string, where: (size: number) => number): void {
  const bytes = readFileSync(file);
  const at = where(bytes.length);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 0x20, at);
  writeFileSync(file, bytes);
}
