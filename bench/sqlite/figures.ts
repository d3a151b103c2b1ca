/** Numbers of repeated measurements: medians with their spread, because the machine may be busy with other work. */

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** @param share 0 to 1 */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** `1.23 (1.10–1.40)`: the median, and the smallest and greatest value. */
export function spread(values: readonly number[], digits = 2): string {
  if (values.length === 0) return '–';
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return `${median(values).toFixed(digits)} (${least.toFixed(digits)}–${most.toFixed(digits)})`;
}

/** `0.95 ± 0.02 (0.85–1.06)`: the geometric mean of ratios, its standard error, and the smallest and greatest of them. */
export function meanRatio(values: readonly number[]): string {
  if (values.length < 2) return spread(values);
  const logs = values.map(Math.log);
  const mean = logs.reduce((sum, each) => sum + each, 0) / logs.length;
  const variance = logs.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (logs.length - 1);
  const error = Math.exp(mean) * Math.sqrt(variance / logs.length);
  const range = `${Math.min(...values).toFixed(2)}–${Math.max(...values).toFixed(2)}`;
  return `${Math.exp(mean).toFixed(2)} ± ${error.toFixed(2)} (${range})`;
}

/** Pairs of the same round divided: what slowed the whole machine down in a round weighs on both. */
export function ratios(values: readonly number[], by: readonly number[]): number[] {
  return values.map((value, round) => value / (by[round] ?? Number.NaN));
}

/** Seconds that `work` takes. */
export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}
