/** Every setting of the service: read from the environment, validated once, documented where it is declared. */
import { homedir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';

const LOOPBACK = ['127.0.0.1', '::1', 'localhost'];

const settings = z.object({
  /** Address to listen on. Anything but loopback is refused until authentication is configured. */
  HOST: z
    .string()
    .default('127.0.0.1')
    .refine((host) => LOOPBACK.includes(host), {
      error: `only loopback (${LOOPBACK.join(', ')}) is possible until authentication is configured`,
    }),
  /** TCP port for HTTP and WebSocket, 0 to 65535; 0 takes a free one and says which. */
  PORT: z.coerce.number({ error: 'must be a whole number from 0 to 65535' }).int().min(0).max(65535).default(4000),
  /** Where everything lives: the catalog, storage, instances. Made on the first start. */
  PITR_HOME: z
    .string()
    .min(1)
    .default(path.join(homedir(), '.pitr-gateway'))
    .transform((directory) => path.resolve(directory)),
  /** fatal, error, warn, info, debug, trace or silent */
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  /** Recoveries that run at the same time, 1 to 64; more wait. */
  PITR_CONCURRENT_RECOVERIES: z.coerce
    .number({ error: 'must be a whole number from 1 to 64' })
    .int()
    .min(1)
    .max(64)
    .default(2),
  /**
   * MiB of captured log per instance that may wait for a full or unreachable storage, 16 to 1048576. Past it capture lets
   * go of the source, so that its own log can shrink; what is lost meanwhile is a gap.
   */
  PITR_RETAINED_LOG_MIB: z.coerce
    .number({ error: 'must be a whole number from 16 to 1048576' })
    .int()
    .min(16)
    .max(1_048_576)
    .default(1024),
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
