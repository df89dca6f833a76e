// Installs the server that comes with the extension into an environment of its own, by pip.
//
// Nothing is installed unless the user says so. The environment lies in the extension's storage and
// is used only where no other server is found (server.ts).

import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import { OLDEST_PYTHON, PYTHON_NAMES, programOf, search } from './server';

/** Where a wheel index with builds of PyTorch for the CPU is; pip's own index has those for CUDA. */
const CPU_INDEX = 'https://download.pytorch.org/whl/cpu';

/** Called with each line that a program writes. */
export type Listen = (line: string) => void;

/** Something the user can act on; the message is a sentence. */
export class InstallError extends Error {}

export interface Installation {
  /** The source distribution that comes with the extension. */
  archive: string;
  /** The environment to make; whatever is there is replaced. */
  folder: string;
  /** An interpreter to try first. */
  python: string | undefined;
  listen: Listen;
  signal: AbortSignal;
}

/** The archive of the server in the extension's folder; undefined in a build without one. */
export function bundledArchive(extension: string): string | undefined {
  const folder = path.join(extension, 'server');
  const names = fs.existsSync(folder) ? fs.readdirSync(folder) : [];
  const name = names.find((file) => file.endsWith('.tar.gz'));
  return name === undefined ? undefined : path.join(folder, name);
}

/** Makes the environment; gives the program. Raises InstallError; then nothing is left behind. */
export async function install(options: Installation): Promise<string> {
  const python = await findPython(options.python, options.signal);
  options.listen(`using ${python}`);
  try {
    await run(python, ['-m', 'venv', '--clear', options.folder], options);
    const inside = programOf(options.folder, 'python');
    const index = await extraIndex(inside, options.signal);
    const arguments_ = ['-m', 'pip', 'install', '--progress-bar', 'off', ...index, options.archive];
    await run(inside, arguments_, options);
    const server = programOf(options.folder, 'qcoder-lsp');
    await run(server, ['--version'], options);
    return server;
  } catch (error) {
    fs.rmSync(options.folder, { recursive: true, force: true });
    throw error;
  }
}

async function findPython(first: string | undefined, signal: AbortSignal): Promise<string> {
  const onPath = PYTHON_NAMES.map((name) => search(name, process.env['PATH'] ?? '', fs.existsSync));
  const code = 'import sys; print(sys.version_info[0] * 100 + sys.version_info[1])';
  for (const python of [first, ...onPath]) {
    if (python === undefined) {
      continue;
    }
    const printed: string[] = [];
    try {
      await run(python, ['-c', code], { listen: (line) => printed.push(line), signal });
    } catch (error) {
      if (signal.aborted) {
        throw error;
      }
      continue;
    }
    if (Number(printed[0]) >= OLDEST_PYTHON[0] * 100 + OLDEST_PYTHON[1]) {
      return python;
    }
  }
  throw new InstallError(
    `qcoder: no Python ${OLDEST_PYTHON.join('.')} or newer was found on PATH. Install one, or select one in the Python extension.`,
  );
}

/** On Linux without an NVIDIA GPU the small build of PyTorch, unless the user has set an index. */
async function extraIndex(python: string, signal: AbortSignal): Promise<string[]> {
  if (os.platform() !== 'linux' || fs.existsSync('/proc/driver/nvidia')) {
    return [];
  }
  const chosen = ['PIP_INDEX_URL', 'PIP_EXTRA_INDEX_URL', 'PIP_FIND_LINKS'];
  const configured: string[] = chosen.filter((name) => process.env[name] !== undefined);
  const listen = (line: string) => {
    if (/index-url|find-links/.test(line)) {
      configured.push(line);
    }
  };
  await run(python, ['-m', 'pip', 'config', 'list'], { listen, signal });
  return configured.length > 0 ? [] : ['--extra-index-url', CPU_INDEX];
}

/** Runs a program to its end; what it writes goes to `listen`. Raises InstallError with its last line. */
export function run(
  program: string,
  args: readonly string[],
  { listen, signal }: { listen: Listen; signal: AbortSignal },
): Promise<void> {
  return new Promise((resolve, reject) => {
    let last = '';
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], signal });
    for (const stream of [child.stdout, child.stderr]) {
      let rest = '';
      stream.setEncoding('utf8').on('data', (text: string) => {
        const lines = (rest + text).split(/\r?\n/);
        rest = lines.pop() ?? '';
        for (const line of lines.filter((each) => each.trim() !== '')) {
          last = line.trim();
          listen(last);
        }
      });
    }
    child.on('error', (error) => {
      reject(new InstallError(signal.aborted ? 'qcoder: cancelled.' : `qcoder: ${error.message}`));
    });
    child.on('close', (code) => {
      if (code === 0) {
        resolve();
      } else {
        const what = `${path.basename(program)} ${args.slice(0, 3).join(' ')}`;
        reject(new InstallError(`qcoder: ${what} ended with ${code ?? 'a signal'}: ${last}`));
      }
    });
  });
}
