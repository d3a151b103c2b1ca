/**
 * Suites that need a server which may not be installed. Without it they are skipped and say how to get it; with
 * PITR_TEST_REQUIRE=all, as in CI, its absence is a failure.
 */
import { spawnSync } from 'node:child_process';

/** The `skip` option for a suite: false when `program` runs, else the reason, printed by the runner. */
export function requirement(program: string, args: string[], howToInstall: string): string | false {
  if (spawnSync(program, args, { stdio: 'ignore' }).status === 0) return false;
  const reason = `${program} is not there; ${howToInstall}`;
  if (process.env.PITR_TEST_REQUIRE === 'all') throw new Error(`PITR_TEST_REQUIRE=all: ${reason}`);
  return reason;
}
