// The operations that lie ready in the playground's tabs, in the order of a recovery; the same files as the examples.

import backupsBefore from '../../../examples/operations/backups-before.graphql';
import backupsBeforeVariables from '../../../examples/operations/backups-before.json';
import cancelRecovery from '../../../examples/operations/cancel-recovery.graphql';
import cancelRecoveryVariables from '../../../examples/operations/cancel-recovery.json';
import instances from '../../../examples/operations/instances.graphql';
import recoverInstance from '../../../examples/operations/recover-instance.graphql';
import recoverInstanceVariables from '../../../examples/operations/recover-instance.json';
import recoveryPlan from '../../../examples/operations/recovery-plan.graphql';
import recoveryPlanVariables from '../../../examples/operations/recovery-plan.json';
import recoveryProgress from '../../../examples/operations/recovery-progress.graphql';
import recoveryProgressVariables from '../../../examples/operations/recovery-progress.json';

export const tabs = [
  { query: instances },
  { query: backupsBefore, variables: backupsBeforeVariables },
  { query: recoveryPlan, variables: recoveryPlanVariables },
  { query: recoverInstance, variables: recoverInstanceVariables },
  { query: recoveryProgress, variables: recoveryProgressVariables },
  { query: cancelRecovery, variables: cancelRecoveryVariables },
];
