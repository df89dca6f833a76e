// Where the server program is. Order: the setting, the active Python environment (only in a
// trusted workspace: a workspace must not choose a program), PATH.

import * as fs from 'node:fs';
import * as path from 'node:path';

import * as vscode from 'vscode';

import { serverPath } from './config';

const NAME = process.platform === 'win32' ? 'qcoder-lsp.exe' : 'qcoder-lsp';

/** A program to start, or a sentence for the user that says what to do. */
export type Found = { command: string } | { problem: string };

export async function findServer(): Promise<Found> {
  const setting = serverPath();
  const trusted = vscode.workspace.isTrusted;
  const python = setting === undefined && trusted ? await activePython() : undefined;
  return chooseServer(setting, python, process.env['PATH'] ?? '', isFile);
}

/** The decision alone: `exists` says whether a path is a file. */
export function chooseServer(
  setting: string | undefined,
  python: string | undefined,
  searchPath: string,
  exists: (file: string) => boolean,
): Found {
  if (setting !== undefined) {
    return fromSetting(setting, searchPath, exists);
  }
  const inEnvironment = python === undefined ? undefined : path.join(path.dirname(python), NAME);
  if (inEnvironment !== undefined && exists(inEnvironment)) {
    return { command: inEnvironment };
  }
  const onPath = search(NAME, searchPath, exists);
  if (onPath !== undefined) {
    return { command: onPath };
  }
  return {
    problem:
      'qcoder: the server qcoder-lsp was not found in the active Python environment or on PATH. ' +
      'Install the qcoder Python package, or set qcoder.serverPath.',
  };
}

function fromSetting(
  setting: string,
  searchPath: string,
  exists: (file: string) => boolean,
): Found {
  const named = path.basename(setting) === setting;
  const command = named ? search(setting, searchPath, exists) : setting;
  if (command !== undefined && exists(command)) {
    return { command };
  }
  return { problem: `qcoder: qcoder.serverPath is ${setting}, but there is no such file.` };
}

function search(
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

function isFile(file: string): boolean {
  return fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
}

interface PythonExtension {
  environments?: { getActiveEnvironmentPath(resource?: vscode.Uri): { path: string } };
}

/** The interpreter that the Python extension has selected, when that extension is there. */
async function activePython(): Promise<string | undefined> {
  const extension = vscode.extensions.getExtension<PythonExtension>('ms-python.python');
  if (extension === undefined) {
    return undefined;
  }
  const api = extension.isActive ? extension.exports : await extension.activate();
  return api.environments?.getActiveEnvironmentPath(vscode.workspace.workspaceFolders?.[0]?.uri).path;
}
