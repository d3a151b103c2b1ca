// The operations that lie ready in the playground's tabs, in the order of a recovery; the same files as the examples.

import backupsBefore from '../../../examples/operations/backups-before.graphql';
import backupsBeforeVariables from '../../../examples/operations/backups-before.json';
import cancelRecovery from '../../../examples/operations/cancel-recovery.graphql';
import cancelRecoveryVariables from '../../../examples/operations/cancel-recovery.json';
import createInstance from '../../../examples/operations/create-instance.graphql';
import createInstanceVariables from '../../../examples/operations/create-instance.json';
import instances from '../../../examples/operations/instances.graphql';
import recoverInstance from '../../../examples/operations/recover-instance.graphql';
import recoverInstanceVariables from '../../../examples/operations/recover-instance.json';
import recoveryPlan from '../../../examples/operations/recovery-plan.graphql';
import recoveryPlanVariables from '../../../examples/operations/recovery-plan.json';
import recoveryProgress from '../../../examples/operations/recovery-progress.graphql';
import recoveryProgressVariables from '../../../examples/operations/recovery-progress.json';
import registerInstance from '../../../examples/operations/register-instance.graphql';
import registerInstanceVariables from '../../../examples/operations/register-instance.json';
import takeBackup from '../../../examples/operations/take-backup.graphql';
import takeBackupVariables from '../../../examples/operations/take-backup.json';

export const tabs = [
  { query: instances },
  { query: createInstance, variables: createInstanceVariables },
  { query: registerInstance, variables: registerInstanceVariables },
  { query: takeBackup, variables: takeBackupVariables },
  { query: backupsBefore, variables: backupsBeforeVariables },
  { query: recoveryPlan, variables: recoveryPlanVariables },
  { query: recoverInstance, variables: recoverInstanceVariables },
  { query: recoveryProgress, variables: recoveryProgressVariables },
  { query: cancelRecovery, variables: cancelRecoveryVariables },
];
