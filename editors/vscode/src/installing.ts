// The command that installs the server: asks first, shows progress, can be cancelled.

import * as vscode from 'vscode';

import { bundledArchive, install, InstallError } from './install';
import { activePython } from './server';

const QUESTION = 'Install the qcoder server?';
const DETAIL =
  'A Python environment is made in the storage of this extension, and pip installs the server into ' +
  'it: about 1 GB, most of it PyTorch from your package index. Nothing else on this machine changes.';

/** Whether a server was installed. `environment` is the folder to make. */
export async function installServer(
  extension: string,
  environment: string,
  log: vscode.LogOutputChannel,
): Promise<boolean> {
  const archive = bundledArchive(extension);
  if (archive === undefined) {
    void vscode.window.showErrorMessage(
      'qcoder: this build of the extension comes without the server. Install the qcoder Python package.',
    );
    return false;
  }
  const chosen = await vscode.window.showInformationMessage(
    QUESTION,
    { modal: true, detail: DETAIL },
    'Install',
  );
  if (chosen === undefined) {
    return false;
  }
  const python = vscode.workspace.isTrusted ? await activePython() : undefined;
  try {
    await withProgress((listen, signal) =>
      install({ archive, folder: environment, python, listen: both(listen), signal }),
    );
    return true;
  } catch (error) {
    log.error(String(error));
    const problem = error instanceof InstallError ? error.message : `qcoder: ${String(error)}`;
    void offerLog(problem, log);
    return false;
  }

  function both(listen: (line: string) => void): (line: string) => void {
    return (line) => {
      log.info(line);
      listen(line);
    };
  }
}

async function offerLog(problem: string, log: vscode.LogOutputChannel): Promise<void> {
  const show = 'Show Log';
  if ((await vscode.window.showErrorMessage(problem, show)) === show) {
    log.show();
  }
}

type Work<T> = (listen: (line: string) => void, signal: AbortSignal) => Promise<T>;

async function withProgress<T>(work: Work<T>): Promise<T> {
  const place = vscode.ProgressLocation.Notification;
  const options = { location: place, title: 'qcoder: installing the server', cancellable: true };
  return vscode.window.withProgress(options, (progress, cancelled) => {
    const control = new AbortController();
    cancelled.onCancellationRequested(() => control.abort());
    return work((message) => progress.report({ message: message.slice(0, 80) }), control.signal);
  });
}
