/**
 * The process in which SQLite is opened: it follows the logs of many databases and answers the service's questions about
 * them. It is a process of its own because POSIX drops all of a process's locks on a file when any descriptor of that
 * file is closed: the service may read database files freely, and this process never does. It ends with the service.
 */
import { Fault } from '../../../errors.js';
import type { SessionEvent } from '../follower/captureTerms.js';
import { CaptureSession } from './captureSession.js';
import { examineCopy, sqliteVersion, useWal } from './databaseFacts.js';
import type { CallName, EngineCalls, FromEngine, ToEngine } from './engineProtocol.js';
import { FileSyncRequests } from './fileSync.js';

const sessions = new Map<string, CaptureSession>();
const syncs = new FileSyncRequests((request, file) => send({ request, sync: file }));

const calls: { [K in CallName]: (given: EngineCalls[K]['arguments']) => Promise<EngineCalls[K]['answer']> } = {
  async attach({ capture, listener, ...request }) {
    // One is left where the service gave up waiting for its end; how it ended was for that call to say.
    const over = sessions
      .get(capture)
      ?.stop()
      .catch(() => {});
    const emit = (event: SessionEvent) => send({ listener, event });
    const started = new CaptureSession(request, { emit, sync: (file) => syncs.sync(file) }, over);
    sessions.set(capture, started);
    await started.ready;
    return null;
  },
  async detach({ capture }) {
    const ending = sessions.get(capture);
    await ending?.stop();
    // Another one may have been attached meanwhile, see attach.
    if (sessions.get(capture) === ending) sessions.delete(capture);
    return null;
  },
  fence: ({ capture, restart }) => session(capture).fence(restart),
  async abandon({ capture, reason }) {
    await session(capture).abandon(reason);
    return null;
  },
  async hold({ capture }) {
    session(capture).hold();
    return null;
  },
  async letGo({ capture, reason }) {
    await session(capture).letGo(reason);
    return null;
  },
  async takeUp({ capture }) {
    session(capture).takeUp();
    return null;
  },
  async synced({ request }) {
    syncs.done(request);
    return null;
  },
  ping: async () => null,
  version: async () => sqliteVersion(),
  useWal: ({ file, create }) => useWal(file, create),
  examineCopy: ({ file }) => examineCopy(file),
};

process.on('message', (message: ToEngine) => void answer(message));
// The service is gone, however it went. No goodbye to SQLite: closing properly may copy and delete a log.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // A signal to the whole process group: the service decides when its captures end.
  process.on(signal, () => {});
}

async function answer(message: ToEngine): Promise<void> {
  const call = calls[message.call] as (given: unknown) => Promise<unknown>;
  try {
    send({ id: message.id, answer: await call(message.arguments) });
  } catch (error) {
    const cause = error instanceof Error ? (error.stack ?? error.message) : String(error);
    send({ id: message.id, fault: Fault.from(error).toData(), cause });
  }
}

function send(message: FromEngine): void {
  if (process.connected) process.send?.(message);
}

function session(capture: string): CaptureSession {
  const found = sessions.get(capture);
  if (!found) throw new Fault('DATASTORE_UNAVAILABLE', 'The capture of this database is not running');
  return found;
}
