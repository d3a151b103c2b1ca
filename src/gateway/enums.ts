/** The public enumerations, made from the lists in model.ts, so that a value without a description does not compile. */
import { registerEnumType } from 'type-graphql';
import type {
  BackupState as BackupStateName,
  BackupType as BackupTypeName,
  InstanceOrigin as InstanceOriginName,
  InstanceState as InstanceStateName,
  RecoveryState as RecoveryStateName,
  RecoveryStepName as StepName,
  StepState as StepStateName,
  WindowBoundary as WindowBoundaryName,
} from '../model.js';

/** Values in the order in which they are described. */
function describe<Value extends string>(name: string, description: string, values: Record<Value, string>) {
  const names = Object.keys(values) as Value[];
  const members = Object.fromEntries(names.map((value) => [value, value])) as Record<Value, Value>;
  const valuesConfig = Object.fromEntries(names.map((value) => [value, { description: values[value] }]));
  registerEnumType(members, {
    name,
    description,
    valuesConfig: valuesConfig as Record<Value, { description: string }>,
  });
  return members;
}

export const InstanceState = describe<InstanceStateName>(
  'InstanceState',
  'What an instance is doing. Clients tolerate values they do not know.',
  {
    PROVISIONING: 'It is being made, or being filled by a recovery; nothing can connect yet.',
    ACTIVE: 'It runs, and its log is kept.',
    STOPPED: 'It does not run at the moment; what was kept can still be recovered.',
    FAILED: 'It could not be made, or broke; its log archive says what is wrong.',
    DELETED: 'It is gone, or was released; what was kept stays recoverable until its retention ends.',
  },
);

export const InstanceOrigin = describe<InstanceOriginName>(
  'InstanceOrigin',
  'REGISTERED: the database belongs to someone else; this service reads it and keeps its backups and log.',
  {
    CREATED: 'Made, and run, by this service.',
    REGISTERED: 'Runs elsewhere and was adopted; deleting it here never touches the database.',
    RECOVERED: 'Made by a recovery, and run by this service.',
  },
);

export const BackupType = describe<BackupTypeName>('BackupType', 'How much of the database a backup holds.', {
  FULL: 'Everything; it stands on no other backup.',
  DIFFERENTIAL: 'What changed since the last full backup.',
  INCREMENTAL: 'What changed since the backup before it, whatever its type.',
});

export const BackupState = describe<BackupStateName>(
  'BackupState',
  'A deleted backup stays as a tombstone, so that old recoveries can still say what they stood on.',
  {
    RUNNING: 'It is being taken.',
    COMPLETED: 'It is whole and stored; a recovery can start from it.',
    FAILED: 'It was not finished; its error says why. Nothing of it is kept.',
    DELETING: 'Its objects are being removed from storage.',
    DELETED: 'Its objects are gone; only this record is left.',
  },
);

export const RecoveryState = describe<RecoveryStateName>(
  'RecoveryState',
  'FAILED and CANCELLED are cleanly undone. STUCK: the undo itself failed and a person has to look; cancelRecovery tries the undo again.',
  {
    QUEUED: 'Planned and stored; it waits for its turn.',
    RUNNING: 'Its steps are being done.',
    UNWINDING: 'It failed or was cancelled, and what it had made is being removed.',
    SUCCEEDED: 'The new instance is active and holds exactly what the plan says.',
    FAILED: 'It failed and was cleanly undone; its error says why.',
    CANCELLED: 'It was cancelled and cleanly undone.',
    STUCK: 'The undo itself failed; a person has to look. cancelRecovery tries the undo again.',
  },
);

export const RecoveryStepName = describe<StepName>(
  'RecoveryStepName',
  'The steps of a recovery. Their order is that of `steps`, and depends on the datastore: SQLite reads the log before the base.',
  {
    RESERVE: 'Makes room for the new instance: its record, its place, its port.',
    RESTORE_BASE: 'Puts the bytes of the full backup back.',
    APPLY_INCREMENTALS: 'Applies the backups that stand on the full one, oldest first.',
    REPLAY_LOG: 'Replays the archived log up to the cut, and not past it.',
    VERIFY: 'Proves that the data ends exactly at the cut, and that the engine finds it sound.',
    ACTIVATE: 'Makes the new instance visible and active, all at once.',
  },
);

export const StepState = describe<StepStateName>('StepState', 'What became of a step.', {
  PENDING: 'Not begun.',
  RUNNING: 'Being done.',
  SUCCEEDED: 'Done.',
  FAILED: 'It failed; its error says why.',
  UNDONE: 'Done or begun, and then cleanly undone.',
  UNDO_FAILED: 'Its undo failed; something of it is left.',
  SKIPPED: 'The plan has nothing for it to do.',
});

export const WindowBoundary = describe<WindowBoundaryName>(
  'WindowBoundary',
  'Why a recovery window starts or ends where it does.',
  {
    FIRST_BACKUP: 'The first backup of this stretch of log became consistent here.',
    LOG_GAP: 'A piece of the log is missing here.',
    CORRUPT_LOG: 'A piece of the log is damaged here.',
    TIMELINE_CHANGE: 'The source began a new branch of its history here.',
    RETENTION: 'What lay on the other side was kept for its time and then removed.',
    LATEST_ARCHIVED: 'The archive has come this far and goes on.',
    SOURCE_DELETED: 'The source was deleted or released here.',
  },
);
