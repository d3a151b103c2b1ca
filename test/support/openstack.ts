/** OpenStack's own command line with its Trove plugin, as a user of it runs it. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { requirement } from './requirement.js';

const run = promisify(execFile);
const LIMIT_MS = 60_000;

/** The `skip` option for a suite. Asking for the help of one command loads the plugin too, and takes a second. */
export function openstackMissing(): string | false {
  const howToInstall = 'scripts/install-test-servers.sh installs it with its Trove plugin';
  return requirement('openstack', ['database', 'backup', 'list', '--help'], howToInstall);
}

/** Runs `openstack database …` and answers with what it prints. `root` ends in the tenant. */
export async function openstack(root: string, ...words: string[]): Promise<string> {
  const access = ['--os-auth-type', 'admin_token', '--os-endpoint', root, '--os-token', 'any'];
  const { stdout } = await run('openstack', [...access, 'database', ...words], {
    timeout: LIMIT_MS,
    // Nothing of the developer's own cloud, and no proxy between the two.
    env: { PATH: process.env.PATH, HOME: '/nonexistent', LC_ALL: 'C.UTF-8', no_proxy: '*' },
  });
  return stdout;
}

/** The same, with the rows or the record that it prints. */
export async function openstackJson<Answer>(root: string, ...words: string[]): Promise<Answer> {
  return JSON.parse(await openstack(root, ...words, '-f', 'json')) as Answer;
}
