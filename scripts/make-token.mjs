// Makes a token for a machine: its line for PITR_TOKENS_FILE on standard output, the token itself on standard error.
//   node scripts/make-token.mjs --name nightly --tenant shop --role operator >> tokens
import { createHash, randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';

const options = { name: { type: 'string' }, tenant: { type: 'string' }, role: { type: 'string' } };
const { name, tenant, role } = parseArgs({ options }).values;
if (!name || !tenant || !['reader', 'operator', 'admin'].includes(role)) {
  console.error('Usage: node scripts/make-token.mjs --name NAME --tenant TENANT --role reader|operator|admin >> FILE');
  process.exit(2);
}
const token = `pitr_${randomBytes(32).toString('base64url')}`;
const sha256 = createHash('sha256').update(token).digest('hex');
console.log(JSON.stringify({ name, tenant, role, sha256 }));
console.error(`The token, shown only now:\n${token}`);
