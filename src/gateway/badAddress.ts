/** What is refused before any route or hook has its say: addresses that can't be read. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { Fault } from '../errors.js';
import { publicBody } from './errorShape.js';

/** For Fastify's `frameworkErrors`. Its own answer would repeat the address, and has another shape. */
export function refuseAddress({ statusCode = 400 }: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const fault = new Fault('INVALID_ARGUMENT', "The address can't be read", {
    hint: 'Give every part of it as UTF-8, percent-encoded, and none that is longer than what it names can be.',
  });
  reply.code(statusCode).header('x-request-id', request.id).header('x-content-type-options', 'nosniff');
  reply.send(publicBody(fault, request.id));
}
