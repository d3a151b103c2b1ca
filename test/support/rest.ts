/** Calls of the REST interface over real HTTP. */
import assert from 'node:assert/strict';

export interface RestAnswer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: what comes back is looked at field by field.
  body: any;
}

export type Rest = (method: string, address: string, body?: unknown) => Promise<RestAnswer>;

/** `root` is where the addresses begin, `http://127.0.0.1:4000/v1.0/demo` for example. */
export function restAt(root: string): Rest {
  return async (method, address, body) => {
    const response = await fetch(root + address, {
      method,
      headers: { connection: 'close', ...(body !== undefined && { 'content-type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === '' ? null : JSON.parse(text) };
  };
}

/** The only field of an error's body, with its name. */
export function refusal({ status, body }: RestAnswer) {
  const [[name, error], ...others] = Object.entries(body) as [[string, RestAnswer['body']], ...unknown[]];
  assert.equal(others.length, 0);
  assert.equal(error.code, status);
  assert.equal(typeof error.message, 'string');
  return { status, name, message: error.message as string, fault: error.fault.code as string };
}
