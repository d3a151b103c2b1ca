/** Calls of the REST interface over real HTTP. */

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
