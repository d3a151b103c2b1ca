/** What `npm start` gives Node, so that tests and benches have the service as it is run. */
import { readFileSync } from 'node:fs';

const { scripts } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  scripts: { start: string };
};

/** Of Node, not of the program; in the order in which they stand. */
export const startFlags: string[] =
  /\bnode ((?:--\S+ )*)/.exec(scripts.start)?.[1]?.trim().split(' ').filter(Boolean) ?? [];
