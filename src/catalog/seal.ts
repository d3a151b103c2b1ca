/**
 * Seals what must not be readable in the catalog's file: AES-256-GCM with a random 96-bit nonce (NIST SP 800-38D), bound
 * to the row it belongs to, so that a sealed text moved to another row does not open.
 *
 * Format: `v1.` and, in base64url, 12 bytes nonce, 16 bytes tag, ciphertext.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { Fault } from '../errors.js';

const VERSION = 'v1.';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export interface Sealer {
  /** `owner` is the id of the row; the same one opens the text again. */
  seal(plain: string, owner: string): string;
  /** @throws Fault INTERNAL where the text was changed, belongs to another row or was sealed with another key */
  open(sealed: string, owner: string): string;
}

/** @param key 32 bytes */
export function sealer(key: Buffer): Sealer {
  return {
    seal(plain, owner) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
      cipher.setAAD(Buffer.from(owner));
      const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()]);
      return VERSION + Buffer.concat([nonce, cipher.getAuthTag(), body]).toString('base64url');
    },

    open(sealed, owner) {
      const bytes = Buffer.from(sealed.slice(VERSION.length), 'base64url');
      try {
        if (!sealed.startsWith(VERSION)) throw new Error('unknown version');
        const nonce = bytes.subarray(0, NONCE_BYTES);
        const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
        decipher.setAAD(Buffer.from(owner));
        decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
        return decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
      } catch (cause) {
        throw new Fault('INTERNAL', `The sealed connection of ${owner} does not open`, {
          hint: 'The catalog was changed by somebody else or is damaged: restore it from its backup.',
          cause,
        });
      }
    },
  };
}
