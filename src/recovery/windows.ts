/**
 * Recovery windows, computed from what the catalog keeps per stretch and per gap: never from single segments, so the
 * cost does not grow with the log. Pure: no I/O, no clock.
 *
 * A window starts at a backup's consistent point and runs to the end of the unbroken log after it. Windows
 * under-report: an instant is inside one only if everything needed to recover to it is archived.
 */
import type { StartingPoint } from '../backup/chains.js';
import type { GapRecord, StretchRecord } from '../catalog/records.js';
import type { Instant } from '../instant.js';
import type { RecoveryWindow, WindowBoundary } from '../model.js';

/** A window with the stretch of log that makes it. */
export interface StretchWindow extends RecoveryWindow {
  stretchId: string;
}

/** Oldest first, by stretch and then by time; stretches in the order in which they began. */
export function computeWindows(
  stretches: readonly StretchRecord[],
  gaps: readonly GapRecord[],
  startingPoints: readonly StartingPoint[],
): StretchWindow[] {
  const ordered = [...stretches].sort((a, b) => a.number - b.number);
  return ordered.flatMap((stretch) =>
    windowsOfStretch(
      stretch,
      gaps.filter((gap) => gap.stretchId === stretch.id).sort((a, b) => a.from - b.from || a.to - b.to),
      startingPoints.filter((point) => point.stretchId === stretch.id).sort((a, b) => a.consistentAt - b.consistentAt),
      stretch.number === ordered[0]?.number,
    ),
  );
}

/** The instant lies in a window: the first one, so that a later stretch can never change what an instant means. */
export function windowHolding(windows: readonly StretchWindow[], at: Instant): StretchWindow | null {
  return windows.find((window) => window.from <= at && at <= window.to) ?? null;
}

function windowsOfStretch(
  stretch: StretchRecord,
  gaps: readonly GapRecord[],
  points: readonly StartingPoint[],
  first: boolean,
): StretchWindow[] {
  const { coveredTo } = stretch;
  if (coveredTo === null) return [];
  const windows: StretchWindow[] = [];
  let startsBecause: WindowBoundary = first ? 'FIRST_BACKUP' : stretch.startsBecause;
  // Null while nothing can be recovered: before the first backup, and after bytes went missing.
  let from: Instant | null = points[0]?.consistentAt ?? null;
  /** The last transaction of those whose bytes the gaps seen so far have taken; what they took may overlap. */
  let missing = -1;
  /** Where the unknown times seen so far end. */
  let knownFrom = 0 as Instant;

  const firstBehind = (ordinal: number) => points.find((point) => point.replayAfter >= ordinal)?.consistentAt ?? null;
  const close = (to: Instant, because: WindowBoundary): void => {
    if (from !== null && from <= to && to <= coveredTo) {
      windows.push({ stretchId: stretch.id, from, to, startsBecause, endsBecause: because });
    }
  };

  for (const gap of gaps) {
    if (gap.from >= coveredTo) break;
    if (gap.last !== null && gap.last <= missing) continue;
    close(gap.from, gap.because);
    if (from !== null && from <= gap.from) startsBecause = gap.because;
    if (gap.last !== null) {
      missing = gap.last;
      from = firstBehind(missing);
      startsBecause = gap.because;
    } else if (gap.to > knownFrom) {
      knownFrom = gap.to; // The log is whole and only its times are unknown: the same base serves on the other side.
    }
    if (from !== null && from < knownFrom) from = knownFrom;
  }
  close(coveredTo, stretch.endsBecause ?? 'LATEST_ARCHIVED');
  return windows;
}
