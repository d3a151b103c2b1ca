/** Who may import whom. Read from the sources, so that a new file is under the rules from its first day. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.resolve(import.meta.dirname, '../../..');
const src = path.join(root, 'src');

/** Rooms of src/ and, for each, the rooms it may import from besides itself. Files directly in src/ are rooms too. */
const ground = ['errors', 'instant', 'model'];
const allowed: Record<string, string[]> = {
  errors: [],
  instant: ['errors'],
  model: ['errors', 'instant'],
  collector: [],
  diskSpace: [],
  blocks: [],
  storage: [...ground, 'collector', 'blocks'],
  datastores: [...ground, 'collector', 'diskSpace', 'blocks'],
  catalog: [...ground, 'quotas'],
  services: [...ground, 'catalog'],
  requestScope: [],
  telemetry: ground,
  events: [...ground, 'catalog', 'telemetry'],
  gauges: [...ground, 'diskSpace', 'catalog', 'backup', 'recovery', 'telemetry'],
  quotas: ['errors'],
  backup: [...ground, 'quotas', 'services', 'catalog', 'datastores', 'storage', 'events', 'requestScope'],
  recovery: [
    ...[...ground, 'quotas', 'services', 'catalog', 'datastores', 'storage', 'backup', 'instances'],
    ...['events', 'telemetry', 'requestScope'],
  ],
  instances: [...ground, 'quotas', 'services', 'catalog', 'datastores', 'storage', 'backup', 'recovery'],
  gateway: [...ground, 'services', 'catalog', 'requestScope', 'telemetry'],
  config: [],
  homeLock: ['instances'],
  secretKey: ['errors', 'instances'],
  startProblem: ['errors', 'homeLock'],
};

/** Packages that only some rooms may use. */
const confined: Record<string, string[]> = {
  typeorm: ['catalog'],
  sqlite3: ['datastores', 'catalog', 'homeLock'],
  pg: ['datastores'],
  fastify: ['gateway'],
  graphql: ['gateway'],
  'type-graphql': ['gateway'],
  jose: ['gateway'],
  '@apollo/server': ['gateway'],
  zod: ['config', 'backup', 'datastores'],
  'prom-client': ['telemetry'],
  '@opentelemetry': ['telemetry'],
  // For tests, benchmarks and examples only; Apollo's are not under a licence to be shipped.
  '@apollo/subgraph': [],
  '@apollo/composition': [],
  '@apollo/gateway': [],
  '@graphql-hive/gateway': [],
};

interface Import {
  file: string;
  room: string;
  specifier: string;
  /** Relative to src/; empty for a package. */
  target: string;
}

function importsOf(file: string): Import[] {
  const text = readFileSync(path.join(src, file), 'utf8');
  const room = roomOf(file);
  const specifiers = [...text.matchAll(/(?:^|\n)(?:import|export)\b[^;'"]*?(?:from\s+)?['"]([^'"]+)['"]/g)];
  const dynamic = [...text.matchAll(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g)];
  return [...specifiers, ...dynamic].map((match) => {
    const specifier = String(match[1]);
    const target = specifier.startsWith('.') ? path.join(path.dirname(file), specifier) : '';
    return { file, room, specifier, target };
  });
}

function roomOf(file: string): string {
  const [first = ''] = file.split(path.sep);
  return first.replace(/\.[jt]s$/, '');
}

function told(broken: Pick<Import, 'file' | 'specifier'>[]): string[] {
  return broken.map(({ file, specifier }) => `${file} imports ${specifier}`);
}

/** The driver that a file belongs to and the room in it, both by directory. */
function driverOf(file: string): { driver: string; room: string | undefined } | null {
  const [room, driver = '', ...rest] = file.split(path.sep);
  if (room !== 'datastores' || rest.length === 0) return null;
  return { driver, room: rest.length > 1 ? rest[0] : undefined };
}

const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
const imports = files.flatMap(importsOf);

test('the sources are really read', () => {
  assert.ok(files.length > 20);
  assert.ok(imports.some(({ room, specifier }) => room === 'recovery' && specifier.startsWith('../catalog/')));
});

test('a room imports only from the rooms below it', () => {
  const broken = imports.filter(({ room, specifier, target }) => {
    if (room === 'main' || target === '') return false;
    if (target.startsWith('..')) return room !== 'catalog' || !specifier.includes('/migrations/');
    const other = roomOf(target);
    return other !== room && !(allowed[room] ?? []).includes(other);
  });
  assert.deepEqual(told(broken), []);
});

test('only main reads the configuration', () => {
  const readers = imports.filter(({ file, specifier }) => specifier.endsWith('/config.js') && file !== 'main.ts');
  assert.deepEqual(readers, []);
});

test('datastores do not know each other', () => {
  const broken = imports.filter(({ file, target }) => {
    const [own, other] = [driverOf(file), driverOf(target)];
    return own && other && own.driver !== other.driver;
  });
  assert.deepEqual(broken, []);
});

test('the rooms of a driver import only from those before them, and never from the driver as a whole', () => {
  const roomsOf: Record<string, string[]> = {
    postgresql: ['formats', 'source', 'server', 'capture', 'backup', 'recovery'],
    sqlite: ['formats', 'source', 'spool', 'follower', 'engine', 'capture', 'replay', 'backup', 'recovery'],
  };
  const seen = new Set(files.flatMap((file) => driverOf(file)?.driver ?? []));
  assert.deepEqual([...seen].sort(), Object.keys(roomsOf));
  for (const [driver, rooms] of Object.entries(roomsOf)) {
    const within = imports.flatMap(({ file, specifier, target }) => {
      const [own, other] = [driverOf(file), driverOf(target)];
      return own?.driver === driver && own.room && other ? [{ file, specifier, own: own.room, other: other.room }] : [];
    });
    assert.deepEqual([...new Set(within.map(({ own }) => own))].sort(), rooms.toSorted());
    const broken = within.filter(({ own, other }) => !other || rooms.indexOf(other) > rooms.indexOf(own));
    assert.deepEqual(told(broken), []);
  }
});

test('some packages stay in their rooms', () => {
  const broken = imports.filter(({ room, specifier }) => {
    const name = Object.keys(confined).find((each) => specifier === each || specifier.startsWith(`${each}/`));
    return name !== undefined && !confined[name]?.includes(room);
  });
  assert.deepEqual(told(broken), []);
});

test('planner, windows, run states and what decides on backups are pure', () => {
  const pure = ['recovery/planner.ts', 'recovery/windows.ts', 'recovery/runState.ts'];
  for (const file of [...pure, 'backup/chains.ts', 'backup/rollForwardDue.ts']) {
    const text = readFileSync(path.join(src, file), 'utf8');
    assert.doesNotMatch(text, /node:|Date\.|Math\.random|performance|\bawait\b|\basync\b/, file);
  }
});

test('no room without a rule', () => {
  const rooms = new Set(imports.map(({ room }) => room));
  rooms.delete('main');
  assert.deepEqual([...rooms].filter((room) => !(room in allowed)).sort(), []);
});
