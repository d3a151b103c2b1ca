/** Which states a recovery may move between, as one table. Pure. */
import type { RecoveryState } from '../model.js';

const transitions: Record<RecoveryState, readonly RecoveryState[]> = {
  QUEUED: ['RUNNING', 'CANCELLED'],
  RUNNING: ['SUCCEEDED', 'UNWINDING'],
  UNWINDING: ['FAILED', 'CANCELLED', 'STUCK'],
  STUCK: ['UNWINDING'],
  SUCCEEDED: [],
  FAILED: [],
  CANCELLED: [],
};

/** Nothing more will happen by itself; subscriptions end here. */
export const finalStates = ['SUCCEEDED', 'FAILED', 'CANCELLED', 'STUCK'] as const satisfies readonly RecoveryState[];

export function isFinal(state: RecoveryState): boolean {
  return (finalStates as readonly RecoveryState[]).includes(state);
}

/** @throws Error for a move that the table does not allow: a defect of the service, never of a caller */
export function assertTransition(from: RecoveryState, to: RecoveryState): void {
  if (!transitions[from].includes(to)) throw new Error(`a recovery cannot go from ${from} to ${to}`);
}
