/** What the service says when it cannot start: a sentence for what its operator can mend, a stack for a defect. */
import { Fault } from './errors.js';
import { HomeInUse } from './homeLock.js';

/** By the operating system's name of the error. */
const hints: Record<string, string> = {
  EADDRINUSE: 'Another program listens there: set PORT to a free port, or to 0 to have one chosen.',
  EADDRNOTAVAIL: 'The machine does not have the address in HOST.',
  EACCES: 'Give the user that the service runs as permission, or set PITR_HOME (or PORT) to something it may use.',
  EPERM: 'Give the user that the service runs as permission, or set PITR_HOME to a directory it may write to.',
  EROFS: 'The file system is read-only: set PITR_HOME to a directory that can be written to.',
  ENOENT: 'Set PITR_HOME to a directory that can be made.',
  ENOTDIR: 'PITR_HOME has to be a directory.',
  ENOSPC: 'The disk is full: make room, or set PITR_HOME to a directory on another one.',
  EDQUOT: 'The disk quota is used up: make room, or set PITR_HOME to a directory on another disk.',
};

export function describeStartProblem(thrown: unknown): string {
  if (thrown instanceof HomeInUse) return thrown.message;
  if (thrown instanceof Fault && thrown.code !== 'INTERNAL') return sentence(thrown, thrown.hint);
  if (thrown instanceof Fault && thrown.hint !== null && thrown.cause instanceof Error) {
    return sentence(thrown, `${thrown.hint} (${thrown.cause.message})`);
  }
  if (!(thrown instanceof Error)) return `pitr-gateway did not start: ${String(thrown)}`;
  const hint = hints[String((thrown as NodeJS.ErrnoException).code)];
  return hint ? sentence(thrown, hint) : (thrown.stack ?? thrown.message);
}

function sentence({ message }: Error, hint: string | null): string {
  return `pitr-gateway did not start: ${message}.${hint ? `\n  ${hint}` : ''}`;
}
