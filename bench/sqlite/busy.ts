/** Keeps one core at work until it is stopped: what that costs an application is the machine's doing. */
import { createHash } from 'node:crypto';

const bytes = Buffer.alloc(1 << 20);
for (;;) createHash('sha256').update(bytes).digest();
