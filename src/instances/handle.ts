/** A catalog record as the handle that drivers work with. */
import type { InstanceRecord } from '../catalog/records.js';
import type { InstanceHandle } from '../model.js';
import type { Places } from './places.js';

export function handleOf(places: Places, instance: InstanceRecord): InstanceHandle {
  return {
    id: instance.id,
    tenantId: instance.tenantId,
    origin: instance.origin,
    connectionUri: instance.connectionUri ?? '',
    home: places.instanceHome(instance.id),
    state: instance.driverState,
  };
}
