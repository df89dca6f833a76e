// Where the server program is. Order: the setting, the active Python environment (only in a
// trusted workspace: a workspace must not choose a program), PATH, the environment that the
// extension has made (install.ts).

import * as fs from 'node:fs';
import * as path from 'node:path';

import * as vscode from 'vscode';

import { serverPath } from './config';

const WINDOWS = process.platform === 'win32';
const NAME = WINDOWS ? 'qcoder-lsp.exe' : 'qcoder-lsp';

export const OLDEST_PYTHON: readonly [number, number] = [3, 11];
export const PYTHON_NAMES = WINDOWS
  ? ['python.exe']
  : ['python3.13', 'python3.12', 'python3.11', 'python3', 'python'];

/** A program to start, or a sentence for the user that says what to do. */
export type Found = { command: string } | { problem: string };

/** `own` is the environment that the extension makes. */
export async function findServer(own: string): Promise<Found> {
  const setting = serverPath();
  const trusted = vscode.workspace.isTrusted;
  const python = setting === undefined && trusted ? await activePython() : undefined;
  const folder = trusted ? vscode.workspace.workspaceFolders?.[0]?.uri.fsPath : undefined;
  return chooseServer(setting, python, process.env['PATH'] ?? '', own, isFile, folder);
}

/**
 * The decision alone: `exists` says whether a path is a file. A relative setting is meant within
 * `folder`, which only a trusted workspace has.
 */
export function chooseServer(
  setting: string | undefined,
  python: string | undefined,
  searchPath: string,
  own: string,
  exists: (file: string) => boolean,
  folder?: string,
): Found {
  if (setting !== undefined) {
    return fromSetting(setting, searchPath, exists, folder);
  }
  // A bare `python` says nothing of where it is.
  const inEnvironment =
    python !== undefined && path.isAbsolute(python)
      ? path.join(path.dirname(python), NAME)
      : undefined;
  if (inEnvironment !== undefined && exists(inEnvironment)) {
    return { command: inEnvironment };
  }
  const onPath = search(NAME, searchPath, exists);
  if (onPath !== undefined) {
    return { command: onPath };
  }
  const installed = programOf(own, 'qcoder-lsp');
  if (exists(installed)) {
    return { command: installed };
  }
  return {
    problem:
      'qcoder: the server qcoder-lsp was not found in the active Python environment or on PATH. ' +
      'Install it here or as a Python package, or set qcoder.serverPath.',
  };
}

function fromSetting(
  setting: string,
  searchPath: string,
  exists: (file: string) => boolean,
  folder: string | undefined,
): Found {
  const named = path.basename(setting) === setting;
  if (!named && !path.isAbsolute(setting) && folder === undefined) {
    return {
      problem:
        `qcoder: qcoder.serverPath is ${setting}, which is relative to a folder. ` +
        'Give an absolute path or a name on PATH, or trust the workspace.',
    };
  }
  const command = named
    ? search(setting, searchPath, exists)
    : path.isAbsolute(setting) ? setting : path.join(folder ?? '', setting);
  if (command !== undefined && exists(command)) {
    return { command };
  }
  return { problem: `qcoder: qcoder.serverPath is ${setting}, but there is no such file.` };
}

/** Path of a program inside a virtual environment. */
export function programOf(environment: string, name: string): string {
  return WINDOWS
    ? path.join(environment, 'Scripts', `${name}.exe`)
    : path.join(environment, 'bin', name);
}

/** The first absolute folder's file of that name; undefined where there is none. */
export function search(
  name: string,
  searchPath: string,
  exists: (file: string) => boolean,
): string | undefined {
  return searchPath
    .split(path.delimiter)
    .filter((folder) => path.isAbsolute(folder))
    .map((folder) => path.join(folder, name))
    .find(exists);
}

/** Whether a path is a file; what may not be looked at is none. */
export function isFile(file: string): boolean {
  try {
    return fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
  } catch {
    return false;
  }
}

interface PythonExtension {
  environments?: { getActiveEnvironmentPath(resource?: vscode.Uri): { path: string } };
}

/** The interpreter that the Python extension has selected, when that extension is there. */
export async function activePython(): Promise<string | undefined> {
  const extension = vscode.extensions.getExtension<PythonExtension>('ms-python.python');
  if (extension === undefined) {
    return undefined;
  }
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  try {
    const api = extension.isActive ? extension.exports : await extension.activate();
    return api.environments?.getActiveEnvironmentPath(folder).path;
  } catch {
    return undefined; // another extension's trouble is no reason to have no server
  }
}
