// A real VS Code that serves its window to a browser: started, waited for, ended.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';

const HOME =
  process.env['QCODER_EDITORS'] ??
  path.join(process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'), 'qcoder-editors');
export const NODE = path.join(HOME, 'node', 'n24', 'bin');
const PROGRAM = path.join(HOME, 'cs', 'node_modules', '.bin', 'code-server');
const START_MS = 60_000;

/** Keeps the window still: no tours, no chat, no updates. */
const QUIET = {
  'workbench.startupEditor': 'none',
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'workbench.colorTheme': 'Default Dark Modern',
  'chat.disableAIFeatures': true,
  'telemetry.telemetryLevel': 'off',
  'extensions.autoUpdate': false,
  'extensions.autoCheckUpdates': false,
  'update.mode': 'none',
  'window.menuBarVisibility': 'compact',
  'editor.minimap.enabled': false,
  'files.autoSave': 'off',
};

export interface Options {
  /** Folder of this run: user data, extensions, storage of the server. */
  folder: string;
  workspace: string;
  settings: Record<string, unknown>;
  vsix?: string;
  environment?: Record<string, string | undefined>;
  arguments?: string[];
}

export interface CodeServer {
  url: string;
  process: ChildProcess;
  stop(): Promise<void>;
}

export async function startCodeServer(options: Options): Promise<CodeServer> {
  const extensions = path.join(options.folder, 'extensions');
  fs.mkdirSync(extensions, { recursive: true });
  // Settings of scope "machine" count on the side where the extension runs.
  for (const side of ['User', 'Machine']) {
    const settings = path.join(options.folder, 'data', side, 'settings.json');
    fs.mkdirSync(path.dirname(settings), { recursive: true });
    fs.writeFileSync(settings, JSON.stringify({ ...QUIET, ...options.settings }, null, 2));
  }
  const config = path.join(options.folder, 'config.yaml');
  fs.writeFileSync(config, 'cert: false\n');
  const folders = ['CONFIG', 'DATA', 'STATE', 'CACHE'].map((name) => [
    `XDG_${name}_HOME`,
    path.join(options.folder, name.toLowerCase()),
  ]);
  const environment = {
    ...process.env,
    ...(Object.fromEntries(folders) as Record<string, string>),
    PATH: `${NODE}:${process.env['PATH'] ?? ''}`,
    ...options.environment,
  };
  const common = ['--user-data-dir', path.join(options.folder, 'data'), '--extensions-dir', extensions];
  if (options.vsix !== undefined) {
    const install = [...common, '--install-extension', options.vsix];
    execFileSync(PROGRAM, install, { env: environment, stdio: 'pipe' });
  }
  const port = await freePort();
  const child = spawn(
    PROGRAM,
    [
      ...common,
      ...['--auth', 'none', '--bind-addr', `127.0.0.1:${port}`, '--config', config],
      ...['--disable-telemetry', '--disable-update-check', '--disable-getting-started-override'],
      ...(options.arguments ?? ['--disable-workspace-trust']),
      options.workspace,
    ],
    { env: environment, stdio: ['ignore', 'pipe', 'pipe'], detached: true },
  );
  const log = fs.createWriteStream(path.join(options.folder, 'code-server.log'));
  child.stdout.pipe(log);
  child.stderr.pipe(log);
  const url = `http://127.0.0.1:${port}`;
  await answering(url, child);
  return { url, process: child, stop: () => stop(child) };
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function answering(url: string, child: ChildProcess): Promise<void> {
  const end = Date.now() + START_MS;
  for (;;) {
    try {
      await fetch(`${url}/healthz`);
      return;
    } catch {
      if (child.exitCode !== null || Date.now() > end) {
        throw new Error('code-server did not start; see code-server.log');
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Ends the whole group: code-server's own children, the extension host and its language server. */
async function stop(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  process.kill(-(child.pid as number), 'SIGTERM');
  await ended;
}
