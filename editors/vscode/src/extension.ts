// Wires the parts together; the parts are in the files beside it.

import * as path from 'node:path';

import * as vscode from 'vscode';

import { Connection } from './client';
import { registerCommands, SHOW_MENU } from './commands';
import { declaredKeys } from './config';
import { Pages } from './documents';
import { installServer } from './installing';
import type { StatusParams } from './protocol';
import { createStatusItem, showStatus } from './status';

let connection: Connection | undefined;

/** What other extensions may ask. */
export interface Api {
  /** What the server said last about itself. */
  status(): StatusParams;
}

export async function activate(context: vscode.ExtensionContext): Promise<Api> {
  const log = vscode.window.createOutputChannel('qcoder', { log: true });
  const item = createStatusItem(SHOW_MENU);
  const manifest = context.extension.packageJSON as { version: string };
  const environment = path.join(context.globalStorageUri.fsPath, `server-${manifest.version}`);
  let status: StatusParams = { kind: 'Inactive', message: 'starting' };
  const report = (change: StatusParams) => {
    status = change;
    showStatus(item, change);
  };
  const current = new Connection(log, declaredKeys(manifest), report, environment);
  connection = current;
  const pages = new Pages();
  const install = async () => {
    if (await installServer(context.extensionPath, environment, log)) {
      await current.restart();
    }
  };
  context.subscriptions.push(
    log,
    item,
    current,
    pages,
    ...registerCommands(current, log, pages, install),
    vscode.workspace.onDidGrantWorkspaceTrust(() => current.restart()),
    vscode.workspace.onDidChangeConfiguration((change) =>
      change.affectsConfiguration('qcoder.serverPath') ? current.restart() : undefined,
    ),
  );
  await current.restart();
  return { status: () => status };
}

/** VS Code waits for this before it ends the process. */
export function deactivate(): Promise<void> | undefined {
  return connection?.stop();
}
