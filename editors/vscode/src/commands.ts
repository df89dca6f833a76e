// What the commands of package.json do. The work itself is the server's.

import * as vscode from 'vscode';

import type { Connection } from './client';
import { COMMAND_DOCSTRING, COMMAND_REINDEX, COMMAND_REVIEW } from './protocol';

export const SHOW_LOG = 'qcoder.showLog';

/** Registers every command; the result belongs into the extension's subscriptions. */
export function registerCommands(
  connection: Connection,
  log: vscode.LogOutputChannel,
): vscode.Disposable[] {
  const commands: Record<string, () => unknown> = {
    'qcoder.restart': () => connection.restart(),
    'qcoder.docstring': () => onServer(connection, COMMAND_DOCSTRING, cursor),
    'qcoder.review': () => onServer(connection, COMMAND_REVIEW, file),
    'qcoder.indexAgain': () => onServer(connection, COMMAND_REINDEX, nothing),
    [SHOW_LOG]: () => log.show(),
  };
  return Object.entries(commands).map(([id, run]) => vscode.commands.registerCommand(id, run));
}

/** Arguments of a command, or undefined where there is no file to run it on. */
type Arguments = (editor: vscode.TextEditor | undefined) => unknown[] | undefined;

const cursor: Arguments = (editor) =>
  editor && [editor.document.uri.toString(), editor.selection.active.line];

const file: Arguments = (editor) => editor && [editor.document.uri.toString()];

const nothing: Arguments = () => [];

async function onServer(connection: Connection, command: string, make: Arguments): Promise<void> {
  const args = make(vscode.window.activeTextEditor);
  const client = connection.running;
  if (args === undefined) {
    void vscode.window.showInformationMessage('qcoder: open a file first.');
  } else if (client === undefined) {
    void vscode.window.showWarningMessage('qcoder: the server is not running; see its log.');
  } else {
    await client.sendRequest('workspace/executeCommand', { command, arguments: args });
  }
}
