/** Notices when an identity that a connection lives on comes to its end. */
import type { Authenticator, Identity } from './authenticator.js';

/** The clock may be set meanwhile, and timers have an upper bound: never sleep longer than this. */
const LOOK_EVERY_MS = 60_000;

/** Calls `ended` at most once, when the token has expired or is not current any more. Returns what stops the watch. */
export function watchIdentity(authenticator: Authenticator, identity: Identity, ended: () => void): () => void {
  const { expiresAt } = identity;
  let timer: NodeJS.Timeout | undefined;
  const stopListening = authenticator.onChange(look);

  function stop(): void {
    clearTimeout(timer);
    stopListening();
  }

  function look(): void {
    clearTimeout(timer);
    const left = expiresAt === null ? null : expiresAt - Date.now();
    if (!identity.isCurrent() || (left !== null && left <= 0)) {
      stop();
      ended();
    } else if (left !== null) {
      timer = setTimeout(look, Math.min(left, LOOK_EVERY_MS)).unref();
    }
  }

  look();
  return stop;
}
