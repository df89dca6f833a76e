// Wires the parts together; the parts are in the files beside it.

import * as vscode from 'vscode';

import { Connection } from './client';
import { registerCommands, SHOW_MENU } from './commands';
import { declaredKeys } from './config';
import { createStatusItem, showStatus } from './status';

let connection: Connection | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const log = vscode.window.createOutputChannel('qcoder', { log: true });
  const status = createStatusItem(SHOW_MENU);
  const keys = declaredKeys(context.extension.packageJSON);
  const current = new Connection(log, keys, (change) => showStatus(status, change));
  connection = current;
  context.subscriptions.push(
    log,
    status,
    current,
    ...registerCommands(current, log),
    vscode.workspace.onDidGrantWorkspaceTrust(() => current.restart()),
    vscode.workspace.onDidChangeConfiguration((change) =>
      change.affectsConfiguration('qcoder.serverPath') ? current.restart() : undefined,
    ),
  );
  await current.restart();
}

/** VS Code waits for this before it ends the process. */
export function deactivate(): Promise<void> | undefined {
  return connection?.stop();
}
