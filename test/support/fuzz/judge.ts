/** What holds for every answer of the service, whatever it was asked. */
import { faultCodes } from '../../../src/errors.js';

/** Codes of what is refused before any field is answered. */
const DOCUMENT_CODES = [
  'GRAPHQL_PARSE_FAILED',
  'GRAPHQL_VALIDATION_FAILED',
  'BAD_USER_INPUT',
  'BAD_REQUEST',
  'OPERATION_RESOLUTION_FAILURE',
  'PERSISTED_QUERY_NOT_FOUND',
];
const CODES = new Set([...faultCodes.filter((code) => code !== 'INTERNAL'), ...DOCUMENT_CODES]);
/** Of the statuses above 499 the ones that the REST interface declares. */
const DECLARED = [501, 503, 504];
const STACK = /\n\s+at |\.[cm]?[jt]s:\d+|node_modules|node:internal/;

export interface Judged {
  status?: number;
  text: string;
}

/** What is wrong with an answer; null for nothing. `secret`: what stands in another tenant's data. */
export function complaint({ status, text }: Judged, secret: string): string | null {
  if (status !== undefined && status >= 500 && !DECLARED.includes(status)) return `status ${status}`;
  if (STACK.test(text)) return 'shows a stack';
  if (text.includes(secret)) return "shows another tenant's data";
  if (text.includes('"INTERNAL"')) return 'is INTERNAL';
  return null;
}

/** The same for an answer of GraphQL: JSON, and every error in the one shape with a known code. */
export function graphqlComplaint(judged: Judged, secret: string): string | null {
  const general = complaint(judged, secret);
  if (general) return general;
  let answer: { errors?: { message?: unknown; extensions?: Record<string, unknown> }[] };
  try {
    answer = JSON.parse(judged.text);
  } catch {
    return 'is no JSON';
  }
  for (const { message, extensions = {} } of answer.errors ?? []) {
    const { code, hint, retryable, details } = extensions;
    if (typeof message !== 'string' || !CODES.has(code as never)) return `has an error with the code ${String(code)}`;
    if (typeof retryable !== 'boolean' || typeof details !== 'object' || hint === undefined)
      return 'has an error of another shape';
  }
  return null;
}
