/** The one place where records become what Trove's clients see. A field that is not copied here is not in any answer. */
import type { BackupRecord, InstanceRecord, RecoveryRecord } from '../../catalog/records.js';
import type { JsonObject } from '../../errors.js';
import { formatInstant, type Instant } from '../../instant.js';
import type { BackupState, InstanceState } from '../../model.js';
import { sentence } from './errors.js';

const BYTES_PER_GIB = 2 ** 30;

const instanceStatuses: Record<InstanceState, [status: string, operating: string]> = {
  PROVISIONING: ['BUILD', 'BUILDING'],
  ACTIVE: ['ACTIVE', 'HEALTHY'],
  STOPPED: ['SHUTDOWN', 'SHUTDOWN'],
  FAILED: ['ERROR', 'ERROR'],
  DELETED: ['DELETED', 'DELETED'],
};

/** Those that Trove would still show; a deleted backup is not there any more. */
export const visibleBackupStates: readonly BackupState[] = ['RUNNING', 'COMPLETED', 'FAILED', 'DELETING'];

/** Where an answer is read. */
export interface Place {
  /** As in the address: what the caller calls the tenant. */
  tenant: string;
  /** The address of the tenant, without a slash at its end. */
  root: string;
}

export function instanceShape(record: InstanceRecord, place: Place): JsonObject {
  const [status, operatingStatus] = instanceStatuses[record.state];
  return {
    id: record.id,
    name: record.name,
    status,
    operating_status: operatingStatus,
    ...inherited(record, place),
    links: links(place, 'instances', record.id),
    addresses: addresses(record.endpoint),
    endpoint: record.endpoint,
    ...(record.recoveredFromId !== null && { recovered_from_instance: record.recoveredFromId }),
    created: time(record.createdAt),
    updated: time(record.deletedAt ?? record.createdAt),
  };
}

/** Whether the instance that a recovery is to make can still come to be. */
export function isExpected({ state }: RecoveryRecord): boolean {
  return state === 'QUEUED' || state === 'RUNNING';
}

/** The instance that a recovery is to make, under the id of the recovery for as long as it has none of its own. */
export function expectedInstanceShape(recovery: RecoveryRecord, source: InstanceRecord, place: Place): JsonObject {
  const status = isExpected(recovery) ? 'BUILD' : 'ERROR';
  return {
    id: recovery.targetId ?? recovery.id,
    name: recovery.targetName,
    status,
    operating_status: status === 'BUILD' ? 'BUILDING' : 'ERROR',
    ...inherited(source, place),
    links: links(place, 'instances', recovery.targetId ?? recovery.id),
    addresses: [],
    endpoint: null,
    recovered_from_instance: recovery.sourceId,
    ...times(recovery),
    created: time(recovery.createdAt),
    updated: time(recovery.finishedAt ?? recovery.startedAt ?? recovery.createdAt),
    ...(recovery.error && {
      fault: {
        message: sentence(recovery.error),
        created: time(recovery.finishedAt ?? recovery.createdAt),
        details: null,
      },
    }),
  };
}

/** The blueprint's answer, in its own spelling of `recovered` and in the right one. */
export function recoveryShape(recovery: RecoveryRecord, source: InstanceRecord, place: Place): JsonObject {
  return {
    id: recovery.targetId ?? recovery.id,
    recoverd_from_instance: recovery.sourceId,
    recovered_from_instance: recovery.sourceId,
    name: recovery.targetName,
    datastore: source.datastore,
    datastore_version: source.datastoreVersion,
    ...times(recovery),
    links: links(place, 'instances', recovery.targetId ?? recovery.id),
  };
}

/** `instance` is null where it is not known any more. */
export function backupShape(record: BackupRecord, instance: InstanceRecord | null, { tenant }: Place): JsonObject {
  const { type, startedAt, completedAt, sizeBytes } = record;
  return {
    id: record.id,
    name: backupName(record),
    description: null,
    locationRef: record.location,
    instance_id: record.instanceId,
    created: time(startedAt),
    updated: time(completedAt ?? startedAt),
    // GiB, as Trove has it, but not so rounded that a small database has none.
    size: sizeBytes === null ? null : Math.round((sizeBytes / BYTES_PER_GIB) * 1e6) / 1e6,
    status: backupStatus(record),
    parent_id: record.parentId,
    project_id: tenant,
    incremental: type !== 'FULL',
    datastore: datastore(instance),
  };
}

export function flavorShape(id: string, place: Place): JsonObject {
  return { id, str_id: id, name: id, ram: null, vcpus: null, disk: null, links: links(place, 'flavors', id) };
}

/** Backups have no names of their own here: type and time tell them apart. */
function backupName({ type, startedAt }: BackupRecord): string {
  return `${type.toLowerCase()}-${formatInstant(startedAt)}`;
}

function backupStatus({ state, percent }: BackupRecord): string {
  // One that waits for its turn has no percent yet.
  if (state === 'RUNNING') return percent === 0 ? 'NEW' : 'BUILDING';
  // A removal that is through leaves DELETED: this one goes on, or was interrupted and can be asked for again.
  return state === 'DELETING' ? 'DELETE_FAILED' : state;
}

/** What a recovered instance has from its source. */
function inherited(record: InstanceRecord, place: Place): JsonObject {
  const { flavor, volumeSizeGiB } = record;
  return {
    flavor: { id: flavor, links: flavor === null ? [] : links(place, 'flavors', flavor) },
    // Trove leaves the volume out where there is none, and its clients expect that.
    ...(volumeSizeGiB !== null && { volume: { size: volumeSizeGiB } }),
    datastore: datastore(record),
    region: null,
    tenant_id: place.tenant,
  };
}

/** With the zone written out, and named besides. */
function times({ plan }: RecoveryRecord): JsonObject {
  const { pointInTime } = plan.target;
  return {
    point_in_time: pointInTime === null ? null : formatInstant(pointInTime),
    closest_point_in_time: formatInstant(plan.closestPointInTime),
    time_zone: 'UTC',
  };
}

function datastore(instance: InstanceRecord | null): JsonObject {
  const version = instance?.datastoreVersion ?? null;
  return { type: instance?.datastore ?? null, version, version_number: version, version_id: version };
}

function links({ root }: Place, noun: string, id: string): JsonObject[] {
  const href = `${root}/${noun}/${encodeURIComponent(id)}`;
  return [
    { href, rel: 'self' },
    { href, rel: 'bookmark' },
  ];
}

/** The host of the endpoint; nothing for a database that is a file. */
function addresses(endpoint: string | null): JsonObject[] {
  const host = endpoint !== null && URL.canParse(endpoint) ? new URL(endpoint).hostname : '';
  return host === '' ? [] : [{ address: host, type: 'private' }];
}

/** As Trove writes times: UTC, whole seconds, no zone. */
function time(at: Instant): string {
  return formatInstant(at).slice(0, 19);
}
