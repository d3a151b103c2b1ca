/**
 * Who may talk to the service at all. A page on the web can make a browser send requests to localhost, and with a name
 * that it resolves to 127.0.0.1 (DNS rebinding) it can even read the answers: so the Host has to be a name that is
 * ours, and an Origin, when there is one, a page that is ours.
 */
import type { IncomingMessage } from 'node:http';
import { Fault } from '../errors.js';

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];

export interface AccessRules {
  /** The port that is listened on. */
  port: number;
  /** Further names, as `name` (any port) or `name:port`. */
  allowedHosts: readonly string[];
  /** Origins of further pages, as `https://console.example.com`. */
  allowedOrigins: readonly string[];
}

export type Access = { origin: string | null; sameOrigin: boolean };

/** @throws Fault FORBIDDEN */
export function checkAccess(request: IncomingMessage, rules: AccessRules): Access {
  // The distinct headers, because of two the plain ones show only the first and something in between may go by the other.
  const hosts = request.headersDistinct.host ?? [];
  const [host] = hosts;
  if (host === undefined || hosts.length > 1 || !isOurs(host.toLowerCase(), rules)) {
    throw new Fault('FORBIDDEN', 'This Host is not served here', {
      hint: 'Use localhost or 127.0.0.1, or add the name to the allowed hosts of the service.',
    });
  }
  const origins = request.headersDistinct.origin ?? [];
  const [origin] = origins;
  if (origin === undefined) return { origin: null, sameOrigin: true };
  // Behind a proxy that ends TLS the page is https although the service speaks http.
  const sameOrigin = [`http://${host}`, `https://${host}`].includes(origin.toLowerCase());
  if (origins.length > 1 || !(sameOrigin || rules.allowedOrigins.includes(origin))) {
    throw new Fault('FORBIDDEN', 'Pages of this Origin may not use the service', {
      hint: 'Add the origin of the page to the allowed origins of the service.',
    });
  }
  return { origin, sameOrigin };
}

function isOurs(host: string, { port, allowedHosts }: AccessRules): boolean {
  const [, name = host, givenPort] = /^(.*?)(?::(\d+))?$/.exec(host) ?? [];
  if (LOOPBACK.includes(name)) return Number(givenPort ?? 80) === port;
  return allowedHosts.some((allowed) => [host, name].includes(allowed.toLowerCase()));
}
