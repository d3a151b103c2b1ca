/** Every bound on what one caller can ask of the edge. main reads them from the configuration; config.ts says what each is. */

export interface Limits {
  /** Fields below one another. */
  depth: number;
  /** Fields of one document that are given another name. */
  aliases: number;
  /** The greatest cost of one operation: cost.ts. */
  cost: number;
  /** Whether the schema may be asked for. */
  introspection: boolean;
  /** How long the fields of one operation may take, in milliseconds. */
  operationMs: number;
  /** Operations that a caller may start in a second, over time; 0 for any number. */
  rate: number;
  /** WebSockets and event streams that a caller may have open at a time. */
  connections: number;
  /** Operations that a caller may have under way on them at a time, subscriptions above all. */
  subscriptions: number;
  /** The only documents that are executed, by the hex SHA-256 of their text; null for any. */
  safelist: ReadonlyMap<string, string> | null;
}
