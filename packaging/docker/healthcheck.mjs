// Whether the process answers: exit code 0 or 1. Not whether it is ready, since a restart would not help.
const { HOST = '127.0.0.1', PORT = '4000' } = process.env;
const any = { '0.0.0.0': '127.0.0.1', '::': '[::1]' };
const host = any[HOST] ?? (HOST.includes(':') ? `[${HOST}]` : HOST);
try {
  const { ok } = await fetch(`http://${host}:${PORT}/healthz`, { signal: AbortSignal.timeout(4_000) });
  process.exit(ok ? 0 : 1);
} catch {
  process.exit(1);
}
