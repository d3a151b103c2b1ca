/** Every setting of the service: read from the environment, validated once, documented where it is declared. */
import { homedir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';

const LOOPBACK = ['127.0.0.1', '::1', 'localhost'];

/** Digits only: what else JavaScript would take for a number (a blank, 0x10, 1e3) is more likely a slip. */
function wholeNumber(least: number, most: number) {
  const error = `must be a whole number from ${least} to ${most}`;
  const inRange = (value: number) => value >= least && value <= most;
  return z
    .string()
    .regex(/^\d{1,9}$/, { error, abort: true })
    .transform(Number)
    .refine(inRange, { error });
}

const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

const settings = z.object({
  /** Address to listen on. Anything but loopback is refused until authentication is configured. */
  HOST: z
    .string()
    .default('127.0.0.1')
    .refine((host) => LOOPBACK.includes(host), {
      error: `only loopback (${LOOPBACK.join(', ')}) is possible until authentication is configured`,
    }),
  /** TCP port for HTTP and WebSocket, 0 to 65535; 0 takes a free one and says which. */
  PORT: wholeNumber(0, 65_535).default(4000),
  /** Where everything lives: the catalog, storage, instances. Made on the first start. */
  PITR_HOME: z
    .string()
    .min(1)
    .default(path.join(homedir(), '.pitr-gateway'))
    .transform((directory) => path.resolve(directory)),
  /** fatal, error, warn, info, debug, trace or silent */
  LOG_LEVEL: z.enum(LEVELS, { error: `must be one of ${LEVELS.join(', ')}` }).default('info'),
  /** Recoveries that run at the same time, 1 to 64; more wait. */
  PITR_CONCURRENT_RECOVERIES: wholeNumber(1, 64).default(2),
  /** Directories with PostgreSQL's programs, looked into before PATH and the distribution's own; separated by colons. */
  PITR_POSTGRESQL_BIN: z
    .string()
    .default('')
    .transform((list) => list.split(':').filter((directory) => directory !== '')),
  /** The user that PostgreSQL servers of the service's own run as where the service itself is root. */
  PITR_POSTGRESQL_USER: z.string().min(1).default('postgres'),
});

export type Config = z.infer<typeof settings>;

export class ConfigError extends Error {}

/** @throws ConfigError naming every setting that is wrong and why */
export function readConfig(environment: Record<string, string | undefined>): Config {
  // An empty variable is one that somebody meant to leave unset.
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const result = settings.safeParse(given);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`);
  throw new ConfigError(`These settings are not usable:\n${problems.join('\n')}`);
}
