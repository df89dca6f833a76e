import assert from 'node:assert/strict';

import * as vscode from 'vscode';

import { actionsAt, applyAction, opened, SOURCE, type Test, until } from './editor';

/** SOURCE, finished. */
const WHOLE = SOURCE.replace('shelf.\n', 'shelf.append((item, amount))\n');

const DRIFTED = `def area(width, height):
    """Compute the area.

    Args:
        width: How wide it is.
    """
    return width * height
`;

function docstrings(document: vscode.TextDocument): number {
  return document.getText().split('"""').length / 2 - 0.5;
}

export const DOCUMENTATION: Record<string, Test> = {
  'the docstring command documents the definition at the cursor': async () => {
    const editor = await opened('documented.py');
    editor.selection = new vscode.Selection(3, 5, 3, 5);
    await vscode.commands.executeCommand('qcoder.docstring');
    await until('docstring', () => editor.document.lineAt(4).text.includes('"""'));
    assert.equal(docstrings(editor.document), 2);
  },

  'the command for the file documents every definition': async () => {
    const { document } = await opened('file.py', WHOLE);
    await vscode.commands.executeCommand('qcoder.docstringFile');
    await until('docstrings', () => docstrings(document) === 3);
  },

  'the light bulb offers the docstring': async () => {
    const { document } = await opened('offered.py');
    await applyAction(document, 3, 'Generate docstring');
    await until('docstring', () => document.lineAt(4).text.includes('"""'));
  },

  'a docstring that has drifted is mended': async () => {
    const { document } = await opened('drifted.py', DRIFTED);
    await applyAction(document, 0, 'Update docstring');
    await until('parameter', () => document.getText().includes('height:'));
    assert.match(document.getText(), /width: How wide it is\./);
  },

  'the whole file is a source action': async () => {
    const { document } = await opened('source.py', WHOLE);
    const kind = vscode.CodeActionKind.Source;
    await until('source action', async () => {
      const found = await vscode.commands.executeCommand<vscode.CodeAction[]>(
        'vscode.executeCodeActionProvider',
        document.uri,
        new vscode.Range(0, 0, 0, 0),
        kind.value,
      );
      return found.some((action) => action.kind !== undefined && kind.contains(action.kind));
    });
  },

  'undo takes a docstring back in one step': async () => {
    const editor = await opened('undone.py');
    editor.selection = new vscode.Selection(3, 5, 3, 5);
    await vscode.commands.executeCommand('qcoder.docstring');
    await until('docstring', () => docstrings(editor.document) === 2);
    await vscode.commands.executeCommand('undo');
    assert.equal(editor.document.getText(), SOURCE);
  },

  'nothing is offered where there is nothing to document': async () => {
    const { document } = await opened('plain.py', 'LIMIT = 3\n');
    const titles = (await actionsAt(document, 0)).map((action) => action.title);
    assert.deepEqual(titles.filter((title) => title.includes('docstring')), []);
  },
};
