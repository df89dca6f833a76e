// Runs inside the extension host of a real VS Code (--extensionTestsPath), against a real server
// with a scripted engine: QCODER_ENGINE='fake:add(item, amount)', QCODER_SERVER=path of qcoder-lsp.

import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';

import * as vscode from 'vscode';

const TIMEOUT_MS = 30_000;
const SUGGESTION = 'add(item, amount)';
const SOURCE = `"""Shelves."""


def load(path):
    handle = open(path)
    return handle.read()


def restock(shelf, item, amount):
    shelf.
`;
const CURSOR = new vscode.Position(9, 10);

/** Polls, since the editor and the server answer when they like. */
async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + TIMEOUT_MS;
  while (!(await condition())) {
    if (Date.now() > end) {
      throw new Error(`no ${what} within ${TIMEOUT_MS / 1000} s`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function openSource(name: string): Promise<vscode.TextEditor> {
  const folder = vscode.workspace.workspaceFolders?.[0];
  assert.ok(folder, 'open a folder');
  const file = path.join(folder.uri.fsPath, name);
  fs.writeFileSync(file, SOURCE);
  return vscode.window.showTextDocument(vscode.Uri.file(file));
}

async function suggestionIsAccepted(editor: vscode.TextEditor): Promise<void> {
  editor.selection = new vscode.Selection(CURSOR, CURSOR);
  await until('suggestion', async () => {
    await vscode.commands.executeCommand('editor.action.inlineSuggest.trigger');
    await vscode.commands.executeCommand('editor.action.inlineSuggest.commit');
    return editor.document.lineAt(CURSOR.line).text === `    shelf.${SUGGESTION}`;
  });
}

const tests: Record<string, () => Promise<void>> = {
  'an opened file is reviewed': async () => {
    const { document } = await openSource('reviewed.py');
    await until('finding', () =>
      vscode.languages.getDiagnostics(document.uri).some((found) => found.code === 'resource-leak'),
    );
  },
  'an inline suggestion is accepted': async () => {
    await suggestionIsAccepted(await openSource('completed.py'));
  },
  'the docstring command edits the definition': async () => {
    const editor = await openSource('documented.py');
    editor.selection = new vscode.Selection(3, 5, 3, 5);
    await vscode.commands.executeCommand('qcoder.docstring');
    await until('docstring', () => editor.document.lineAt(4).text.includes('"""'));
  },
  'the light bulb offers the docstring': async () => {
    const { document } = await openSource('offered.py');
    const range = new vscode.Range(3, 5, 3, 5);
    await until('code action', async () => {
      const actions = await vscode.commands.executeCommand<vscode.CodeAction[]>(
        'vscode.executeCodeActionProvider',
        document.uri,
        range,
      );
      return actions.some((action) => action.title.startsWith('Generate docstring'));
    });
  },
  'suggestions come after a restart': async () => {
    await vscode.commands.executeCommand('qcoder.restart');
    await suggestionIsAccepted(await openSource('restarted.py'));
  },
};

/** Called by VS Code; a rejected promise is a failed run. */
export async function run(): Promise<void> {
  const server = process.env['QCODER_SERVER'];
  assert.ok(server, 'QCODER_SERVER names the server');
  await vscode.workspace
    .getConfiguration('qcoder')
    .update('serverPath', server, vscode.ConfigurationTarget.Global);
  const failures: string[] = [];
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`FAIL ${name}: ${String(error)}`);
      failures.push(`${name}: ${String(error)}`);
    }
    await vscode.commands.executeCommand('workbench.action.files.saveAll');
  }
  if (failures.length > 0) {
    throw new Error(failures.join('\n'));
  }
}
