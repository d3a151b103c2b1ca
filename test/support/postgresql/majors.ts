/** The servers of several majors that tests start: Debian's own, and those of scripts/install-test-postgresql.mjs. */
import { requirement } from '../requirement.js';

const SERVERS = process.env.PITR_TEST_SERVERS || '/opt/pitr-test-servers';

/** Where a major's programs are: all of them for 15, for the others the server and what makes a new cluster. */
export function binOf(major: number): string {
  return major === 15 ? '/usr/lib/postgresql/15/bin' : `${SERVERS}/postgresql-${major}/bin`;
}

/** The `skip` option for a suite that needs a major's server. */
export function withoutMajor(major: number): string | false {
  // It is there to be refused only, and nobody packed it.
  if (major === 14 && process.arch !== 'x64') return `there is no PostgreSQL 14 for ${process.arch}`;
  return requirement(`${binOf(major)}/postgres`, ['--version'], 'install it with scripts/install-test-servers.sh');
}
