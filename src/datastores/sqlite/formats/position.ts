/** Places in SQLite's captured log as users write them: `generation/transaction`, for example 3/1204. */
import type { LogPosition } from '../../../model.js';

const shape = /^([1-9]\d{0,8})\/(0|[1-9]\d{0,15})$/;

export function position(generation: number, ordinal: number): LogPosition {
  return { stretch: String(generation), ordinal, text: `${generation}/${ordinal}` };
}

/** Null where the text is no such place. */
export function parsePosition(text: string): LogPosition | null {
  const match = shape.exec(text);
  const ordinal = Number(match?.[2]);
  return match && Number.isSafeInteger(ordinal) ? position(Number(match[1]), ordinal) : null;
}
