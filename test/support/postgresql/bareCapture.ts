/** A capture without a driver around it, of an instance that nothing is known of yet. */
import type { LogSink } from '../../../src/datastores/datastore.js';
import { WalCapture } from '../../../src/datastores/postgresql/capture/capture.js';
import type { ServerAddress } from '../../../src/datastores/postgresql/source/address.js';

export function bareCapture(address: ServerAddress, sink: LogSink): WalCapture {
  return new WalCapture({
    address,
    slot: 'pitr_x',
    systemId: null,
    resume: null,
    sink,
    retainBytes: 2 ** 30,
    streamRestMs: 0,
  });
}
