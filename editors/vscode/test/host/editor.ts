// What the tests do in the editor, and what they wait for.

import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';

import * as vscode from 'vscode';

import type { Api } from '../../src/extension';

const TIMEOUT_MS = 20_000;

/** What the scripted engine writes wherever it is asked. */
export const SUGGESTION = 'add(item, amount)';

export const SOURCE = `"""Shelves."""


def load(path):
    handle = open(path)
    return handle.read()


def restock(shelf, item, amount):
    shelf.
`;

/** Behind `shelf.` in SOURCE. */
export const CURSOR = new vscode.Position(9, 10);

export type Test = () => Promise<void>;

/** Polls, since the editor and the server answer when they like. */
export async function until(what: string, condition: () => unknown): Promise<void> {
  const end = Date.now() + TIMEOUT_MS;
  while (!(await condition())) {
    if (Date.now() > end) {
      throw new Error(`no ${what} within ${TIMEOUT_MS / 1000} s`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export function workspace(): string {
  const folder = vscode.workspace.workspaceFolders?.[0];
  assert.ok(folder, 'open a folder');
  return folder.uri.fsPath;
}

/** Writes a file of the workspace and opens it. */
export async function opened(name: string, text = SOURCE): Promise<vscode.TextEditor> {
  const file = path.join(workspace(), name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
  return vscode.window.showTextDocument(vscode.Uri.file(file), { preview: false });
}

export function api(): Api {
  const extension = vscode.extensions.getExtension<Api>('qcoder.qcoder');
  assert.ok(extension?.isActive, 'the extension is active');
  return extension.exports;
}

export async function ready(): Promise<void> {
  await until('ready server', () => api().status().kind === 'Normal');
}

/** Asks for ghost text at a place until `accept`, a command, has brought the line to `expected`. */
export async function accepts(
  editor: vscode.TextEditor,
  place: vscode.Position,
  accept: string,
  expected: string,
): Promise<void> {
  const before = editor.document.lineAt(place.line).text;
  await until(`line ${JSON.stringify(expected)}`, async () => {
    if (editor.document.lineAt(place.line).text === before) {
      editor.selection = new vscode.Selection(place, place);
      await vscode.commands.executeCommand('editor.action.inlineSuggest.trigger');
      await vscode.commands.executeCommand(accept);
    }
    return editor.document.lineAt(place.line).text === expected;
  });
}

export const ACCEPT = 'editor.action.inlineSuggest.commit';

/** Never shows up: asks several times and gives the server time to answer. */
export async function staysEmpty(editor: vscode.TextEditor, place: vscode.Position): Promise<void> {
  const before = editor.document.getText();
  for (let attempt = 0; attempt < 5; attempt++) {
    editor.selection = new vscode.Selection(place, place);
    await vscode.commands.executeCommand('editor.action.inlineSuggest.trigger');
    await new Promise((resolve) => setTimeout(resolve, 150));
    await vscode.commands.executeCommand(ACCEPT);
  }
  assert.equal(editor.document.getText(), before);
}

export function codes(uri: vscode.Uri): string[] {
  return vscode.languages.getDiagnostics(uri).map((found) => String(found.code));
}

export async function actionsAt(
  document: vscode.TextDocument,
  line: number,
): Promise<vscode.CodeAction[]> {
  return vscode.commands.executeCommand<vscode.CodeAction[]>(
    'vscode.executeCodeActionProvider',
    document.uri,
    document.lineAt(line).range,
    undefined,
    10, // resolves so many
  );
}

/** Applies the first action at a line whose title begins so. */
export async function applyAction(
  document: vscode.TextDocument,
  line: number,
  title: string,
): Promise<void> {
  let found: vscode.CodeAction | undefined;
  await until(`action ${title}`, async () => {
    found = (await actionsAt(document, line)).find((action) => action.title.startsWith(title));
    return found;
  });
  if (found?.edit !== undefined) {
    assert.ok(await vscode.workspace.applyEdit(found.edit));
  }
  if (found?.command !== undefined) {
    await vscode.commands.executeCommand(found.command.command, ...(found.command.arguments ?? []));
  }
}

/** Changes a setting of the user, runs `act`, and takes the change back. */
export async function withSetting(name: string, value: unknown, act: Test): Promise<void> {
  const settings = () => vscode.workspace.getConfiguration('qcoder');
  const before = settings().inspect(name)?.globalValue;
  await settings().update(name, value, vscode.ConfigurationTarget.Global);
  try {
    await act();
  } finally {
    await settings().update(name, before, vscode.ConfigurationTarget.Global);
  }
}

export function tabLabels(): string[] {
  return vscode.window.tabGroups.all.flatMap((group) => group.tabs.map((tab) => tab.label));
}
