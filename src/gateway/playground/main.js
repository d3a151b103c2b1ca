// The playground: GraphiQL on this service, everything from its own origin.
import './workers.js';
import { createGraphiQLFetcher } from '@graphiql/toolkit';
import { GraphiQL } from 'graphiql';
import { createClient } from 'graphql-ws';
import { createElement } from 'react';
import { createRoot } from 'react-dom/client';
import 'graphiql/style.css';
import './page.css';
import { tabs } from './tabs.js';

const endpoint = new URL('/graphql', location.href);
const socketEndpoint = Object.assign(new URL(endpoint), { protocol: endpoint.protocol === 'https:' ? 'wss:' : 'ws:' });

const fetcher = createGraphiQLFetcher({
  url: endpoint.href,
  wsClient: createClient({ url: socketEndpoint.href }),
});

createRoot(document.getElementById('playground')).render(
  createElement(GraphiQL, { fetcher, defaultTabs: tabs, defaultEditorToolsVisibility: true }),
);
