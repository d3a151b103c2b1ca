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

const words = (text: string): string[] => text.split(/[\s,]+/).filter((word) => word !== '');

const wordsThat = (fit: (word: string) => boolean, error: string) =>
  z
    .string()
    .default('')
    .transform(words)
    .refine((list) => list.every(fit), { error });

/** No limit where it is left out. */
const quota = wholeNumber(0, 999_999_999).nullable().default(null);

/** Keys and tokens must not be readable or changeable on the way, so only a test may do without TLS. */
const secureUrl = z
  .string()
  .refine((text) => isSecureUrl(text), { error: 'must be an https:// URL (http:// only on loopback), without a query' })
  .nullable()
  .default(null);

/** Receivers of traces stand on the same host or network as a rule; what is sent names no secrets. */
const webAddress = z
  .string()
  .refine((text) => /^https?:\/\//.test(text) && URL.canParse(text), { error: 'must be an http:// or https:// URL' })
  .nullable()
  .default(null);

const address = z
  .string()
  .regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, { error: 'must be host:port', abort: true })
  .transform((text) => {
    const colon = text.lastIndexOf(':');
    return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) };
  })
  .refine(({ port }) => port <= 65_535, { error: 'must have a port from 0 to 65535' })
  .nullable()
  .default(null);

const file = z
  .string()
  .transform((name) => path.resolve(name))
  .nullable()
  .default(null);

const settings = z.object({
  /** Address to listen on. Anything but loopback is refused until authentication is configured. */
  HOST: z.string().default('127.0.0.1'),
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
  /**
   * MiB of log per instance that may wait for a full or unreachable storage, here or on the source, 16 to 1048576. Past it
   * capture lets go of the source, so that its own log can shrink; what is lost meanwhile is a gap.
   */
  PITR_RETAINED_LOG_MIB: wholeNumber(16, 1_048_576).default(1024),
  /**
   * Whether full backups are made of older ones and the archived log where much log has come together, without the
   * database: on or off. They can be asked for either way.
   */
  PITR_SYNTHETIC_BACKUPS: z.enum(['on', 'off'], { error: 'must be on or off' }).default('on'),
  /** Directories with PostgreSQL's programs, looked into before PATH and the distribution's own; separated by colons. */
  PITR_POSTGRESQL_BIN: z
    .string()
    .default('')
    .transform((list) => list.split(':').filter((directory) => directory !== '')),
  /** The user that PostgreSQL servers of the service's own run as where the service itself is root. */
  PITR_POSTGRESQL_USER: z.string().min(1).default('postgres'),
  /**
   * Milliseconds, 0 to 10000, for which the stream of a PostgreSQL source's log is ended whenever everything is received and
   * nobody waits, so that the server does not send each of its commits; 0 stays in the stream. What it costs:
   * docs/postgresql.md.
   */
  PITR_POSTGRESQL_STREAM_REST_MS: wholeNumber(0, 10_000).default(0),

  /** Names besides localhost under which the service is reached, as `name` or `name:port`, separated by commas. */
  PITR_ALLOWED_HOSTS: wordsThat(
    (word) => /^([\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?$/.test(word),
    'must be names, or name:port, separated by commas',
  ),
  /** Origins of pages besides its own that may use it, as https://console.example.com, separated by commas. */
  PITR_ALLOWED_ORIGINS: wordsThat(
    (word) => URL.canParse(word) && new URL(word).origin === word,
    'must be origins as browsers send them, such as https://console.example.com, without a path or a slash at the end',
  ),

  /** The OpenID Connect issuer whose tokens are accepted, exactly as their `iss` has it. */
  PITR_OIDC_ISSUER: secureUrl,
  /** What their `aud` has to hold; several, separated by commas, for any one of them. */
  PITR_OIDC_AUDIENCE: z.string().default('').transform(words),
  /** Where the issuer's keys are; found by OpenID Connect Discovery where it is left out. */
  PITR_OIDC_JWKS_URI: secureUrl,
  /** The claim that names the tenant; dots lead into objects. */
  PITR_OIDC_TENANT_CLAIM: z.string().min(1).default('tenant'),
  /** The claim that is, or lists, reader, operator or admin; dots lead into objects. The highest counts. */
  PITR_OIDC_ROLE_CLAIM: z.string().min(1).default('role'),
  /** How far the issuer's clock may be from this one, in seconds, 0 to 300. */
  PITR_OIDC_CLOCK_TOLERANCE: wholeNumber(0, 300).default(5),
  /** Hashes of the tokens of machines: docs/identity.md. */
  PITR_TOKENS_FILE: z
    .string()
    .transform((file) => path.resolve(file))
    .nullable()
    .default(null),

  /**
   * The directory from which files may be registered; {tenant} stands for the caller's tenant. Left out: none with
   * authentication, every one without it, when the only caller is whoever runs the service.
   */
  PITR_REGISTER_FILES: z
    .string()
    .refine((directory) => path.isAbsolute(directory), { error: 'must be an absolute path' })
    .refine((directory) => !/[{}]/.test(directory.replaceAll('{tenant}', '')), {
      error: 'knows no braces but {tenant}',
    })
    .nullable()
    .default(null),

  /** Seconds, 0 to 300, for which /readyz says no on SIGTERM while everything else goes on; for load balancers. */
  PITR_DRAIN_SECONDS: wholeNumber(0, 300).default(0),
  /** host:port for /metrics alone. Left out: beside the API without authentication, nowhere with it. */
  PITR_METRICS_LISTEN: address,
  /** Holds the token that whoever asks there has to send; needed on anything but loopback. */
  PITR_METRICS_TOKEN_FILE: file,

  /** Base address of an OpenTelemetry receiver for OTLP over HTTP, such as http://localhost:4318; no traces without it. */
  OTEL_EXPORTER_OTLP_ENDPOINT: webAddress,
  /** The same for traces alone, with its whole path. */
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: webAddress,
  /** `true`: no traces, whatever else is set. */
  OTEL_SDK_DISABLED: z.string().default('false'),
  /** Anything without `otlp` in it, such as `none`: no traces. */
  OTEL_TRACES_EXPORTER: z.string().default('otlp'),
  /** What spans say that they are from. */
  OTEL_SERVICE_NAME: z.string().min(1).default('pitr-gateway'),

  /** Where to post how recoveries end and whether archives are well; https, or http on loopback. */
  PITR_WEBHOOK_URL: z
    .string()
    .refine((text) => isSecureUrl(text, { query: true }), {
      error: 'must be an https:// URL (http:// only on loopback)',
    })
    .nullable()
    .default(null),
  /** Holds the secrets that events are signed with: docs/operating.md. */
  PITR_WEBHOOK_SECRET_FILE: file,
  /** The `source` of events: a URI that tells this service from others. */
  PITR_WEBHOOK_SOURCE: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9+.-]*:[\w.~:/?#[\]@!$&'()*+,;=%-]{1,500}$/, { error: 'must be a URI' })
    .default('urn:pitr-gateway'),

  /** The most that each tenant may have: instances, GiB of their volumes, backups, recoveries waiting or running. */
  PITR_QUOTA_INSTANCES: quota,
  PITR_QUOTA_VOLUME_GIB: quota,
  PITR_QUOTA_BACKUPS: quota,
  PITR_QUOTA_RECOVERIES: quota,

  /**
   * Where PostgreSQL servers may be registered: CIDR blocks and the words public, private, loopback and sockets, separated
   * by commas. Left out: public and private, and without authentication loopback and sockets as well. Link-local and other
   * special addresses, and those of clouds' metadata services, only where a block names them.
   */
  PITR_REGISTER_NETWORKS: z.string().transform(words).nullable().default(null),

  /** Fields below one another in an operation, 1 to 100. */
  PITR_LIMIT_DEPTH: wholeNumber(1, 100).default(12),
  /** Fields of one document that have an alias, 0 to 10000. */
  PITR_LIMIT_ALIASES: wholeNumber(0, 10_000).default(500),
  /** The cost of one operation, about the number of objects that it can answer with: docs/limits.md. */
  PITR_LIMIT_COST: wholeNumber(1, 999_999_999).default(50_000),
  /** Seconds that the fields of one operation may take together, 1 to 3600. */
  PITR_LIMIT_OPERATION_SECONDS: wholeNumber(1, 3_600).default(60),
  /** Operations a second that each caller may start, over GraphQL and REST together, with bursts of ten seconds' worth; 0 for any number. */
  PITR_LIMIT_RATE: wholeNumber(0, 1_000_000).default(200),
  /** WebSockets and event streams that each caller may have open. */
  PITR_LIMIT_CONNECTIONS: wholeNumber(1, 1_000_000).default(200),
  /** Subscriptions and other operations that each caller may have under way on them. */
  PITR_LIMIT_SUBSCRIPTIONS: wholeNumber(1, 1_000_000).default(1_000),
  /** Whether the schema may be asked for: on or off. Federated gateways' _service answers either way. */
  PITR_INTROSPECTION: z.enum(['on', 'off'], { error: 'must be on or off' }).default('on'),
  /** The only operations that are executed: a persisted query manifest, or a JSON object from hash to document. */
  PITR_OPERATIONS_FILE: z
    .string()
    .transform((file) => path.resolve(file))
    .nullable()
    .default(null),
});

const consistent = settings.superRefine((config, { addIssue }) => {
  const complain = (setting: string, message: string) => addIssue({ code: 'custom', path: [setting], message });
  const issuer = config.PITR_OIDC_ISSUER !== null;
  if (issuer && config.PITR_OIDC_AUDIENCE.length === 0) {
    complain(
      'PITR_OIDC_AUDIENCE',
      'is needed with PITR_OIDC_ISSUER: a token made for another service must not be good here',
    );
  }
  if (!issuer && (config.PITR_OIDC_AUDIENCE.length > 0 || config.PITR_OIDC_JWKS_URI !== null)) {
    complain('PITR_OIDC_ISSUER', 'is needed with PITR_OIDC_AUDIENCE and PITR_OIDC_JWKS_URI');
  }
  const metrics = config.PITR_METRICS_LISTEN;
  if (metrics !== null && config.PITR_METRICS_TOKEN_FILE === null && !LOOPBACK.includes(metrics.host)) {
    complain(
      'PITR_METRICS_LISTEN',
      `only loopback (${LOOPBACK.join(', ')}) is possible without PITR_METRICS_TOKEN_FILE`,
    );
  }
  if (metrics === null && config.PITR_METRICS_TOKEN_FILE !== null) {
    complain('PITR_METRICS_LISTEN', 'is needed with PITR_METRICS_TOKEN_FILE');
  }
  if ((config.PITR_WEBHOOK_URL === null) !== (config.PITR_WEBHOOK_SECRET_FILE === null)) {
    const missing = config.PITR_WEBHOOK_URL === null ? 'PITR_WEBHOOK_URL' : 'PITR_WEBHOOK_SECRET_FILE';
    complain(missing, 'PITR_WEBHOOK_URL and PITR_WEBHOOK_SECRET_FILE are needed together');
  }
  if (!issuer && config.PITR_TOKENS_FILE === null && !LOOPBACK.includes(config.HOST)) {
    complain(
      'HOST',
      `only loopback (${LOOPBACK.join(', ')}) is possible until authentication is configured: set PITR_OIDC_ISSUER or PITR_TOKENS_FILE`,
    );
  }
});

export type Config = z.infer<typeof settings>;

export class ConfigError extends Error {}

/** @throws ConfigError naming every setting that is wrong and why */
export function readConfig(environment: Record<string, string | undefined>): Config {
  // An empty variable is one that somebody meant to leave unset.
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const result = consistent.safeParse(given);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`);
  throw new ConfigError(`These settings are not usable:\n${problems.join('\n')}`);
}

function isSecureUrl(text: string, { query = false } = {}): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, search, hash, username } = new URL(text);
  if ((search !== '' && !query) || hash !== '' || username !== '') return false;
  return protocol === 'https:' || (protocol === 'http:' && ['127.0.0.1', '[::1]', 'localhost'].includes(hostname));
}
