/** Signatures as Standard Webhooks 1.0 has them: HMAC-SHA256 over id, time and body, so that none can be exchanged. */
import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Fault } from '../errors.js';

/** Bytes of a secret, by the specification. */
const SHORTEST = 24;
const LONGEST = 64;
/** While receivers change from one to the next there are two. */
const MOST_SECRETS = 4;

/**
 * The secrets in a file: one a line, `whsec_` and base64; the first is the newest. Empty lines and those that begin with # are comments.
 * @throws Fault INVALID_ARGUMENT that repeats nothing of the file
 */
export async function readSecrets(file: string): Promise<Buffer[]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Fault('INVALID_ARGUMENT', `The file of the webhook's secret can't be read (${code})`);
  }
  const lines = text.split('\n').map((line) => line.trim());
  const secrets = lines.filter((line) => line !== '' && !line.startsWith('#')).map(secretIn);
  if (secrets.length === 0 || secrets.length > MOST_SECRETS) {
    throw new Fault('INVALID_ARGUMENT', `The file of the webhook's secret has to hold 1 to ${MOST_SECRETS} secrets`);
  }
  return secrets;
}

/** The value of the header webhook-signature. `seconds`: the header webhook-timestamp. */
export function signatures(id: string, seconds: number, body: string, secrets: readonly Buffer[]): string {
  const signed = `${id}.${seconds}.${body}`;
  return secrets.map((secret) => `v1,${createHmac('sha256', secret).update(signed).digest('base64')}`).join(' ');
}

function secretIn(line: string): Buffer {
  const [, base64 = ''] = /^(?:whsec_)?([A-Za-z0-9+/]+={0,2})$/.exec(line) ?? [];
  const secret = Buffer.from(base64, 'base64');
  if (secret.length >= SHORTEST && secret.length <= LONGEST) return secret;
  throw new Fault(
    'INVALID_ARGUMENT',
    `A secret of a webhook is whsec_ and ${SHORTEST} to ${LONGEST} bytes in base64: echo "whsec_$(openssl rand -base64 32)"`,
  );
}
