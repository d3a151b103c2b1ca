/** Composes running subgraphs into one supergraph, from what each of them says about itself. */
import { composeServices } from '@apollo/composition';
import { parse } from 'graphql';

/** `subgraphs`: the URL of each one's GraphQL, by name. @throws Error with every reason why they don't fit together */
export async function composeSupergraph(subgraphs: Record<string, string>): Promise<string> {
  const services = Object.entries(subgraphs).map(async ([name, url]) => ({
    name,
    url,
    typeDefs: parse(await askForSdl(url)),
  }));
  const { supergraphSdl, errors } = composeServices(await Promise.all(services));
  if (!supergraphSdl) throw new Error((errors ?? []).map(({ message }) => message).join('\n'));
  return supergraphSdl;
}

async function askForSdl(url: string): Promise<string> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query: '{ _service { sdl } }' }),
  });
  const { data } = (await response.json()) as { data?: { _service: { sdl: string } } };
  if (!data) throw new Error(`${url} does not say what it offers: status ${response.status}`);
  return data._service.sdl;
}
