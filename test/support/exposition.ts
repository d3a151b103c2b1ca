/** A strict reader of Prometheus' text format, version 0.0.4: what does not follow it throws. */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (NaN|[+-]Inf|[+-]?[0-9.]+(?:e[+-]?[0-9]+)?)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/y;

export function parseExposition(text: string): Sample[] {
  if (!text.endsWith('\n')) throw new Error('the text does not end with a line feed');
  const types = new Map<string, string>();
  const seen = new Set<string>();
  const samples: Sample[] = [];
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, kind, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
    if (kind !== undefined) {
      if (!NAME.test(name)) throw new Error(`not a name: ${line}`);
      if (kind === 'TYPE' && types.has(name)) throw new Error(`a second type: ${line}`);
      if (kind === 'TYPE') types.set(name, rest);
      continue;
    }
    const [, sample, inside = '', number] = SAMPLE.exec(line) ?? [];
    if (sample === undefined) throw new Error(`not a sample: ${line}`);
    if (seen.has(`${sample}{${inside}}`)) throw new Error(`twice: ${line}`);
    seen.add(`${sample}{${inside}}`);
    if (!types.has(sample) && !types.has(sample.replace(/_(bucket|sum|count)$/, ''))) {
      throw new Error(`without a type: ${line}`);
    }
    const value = number === '+Inf' ? Infinity : number === '-Inf' ? -Infinity : Number(number);
    samples.push({ name: sample, labels: labelsIn(inside), value });
  }
  return samples;
}

/** The value of the one sample with that name and at least these labels; undefined where there is none. */
export function sampled(samples: readonly Sample[], name: string, labels: Record<string, string> = {}) {
  const found = samples.filter(
    (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
  );
  if (found.length > 1) throw new Error(`${found.length} samples are called ${name} ${JSON.stringify(labels)}`);
  return found[0]?.value;
}

function labelsIn(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const [, name = '', value = ''] = LABEL.exec(text) ?? [];
    if (name === '') throw new Error(`not labels: ${text}`);
    labels[name] = value.replace(/\\([\\"n])/g, (_, sign) => (sign === 'n' ? '\n' : sign));
  }
  return labels;
}
