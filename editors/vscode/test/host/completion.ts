import assert from 'node:assert/strict';

import * as vscode from 'vscode';

import {
  ACCEPT,
  accepts,
  CURSOR,
  opened,
  SOURCE,
  staysEmpty,
  SUGGESTION,
  type Test,
  withSetting,
} from './editor';

const WHOLE = `    shelf.${SUGGESTION}`;

export const COMPLETION: Record<string, Test> = {
  'an inline suggestion is accepted whole': async () =>
    accepts(await opened('whole.py'), CURSOR, ACCEPT, WHOLE),

  'the next word of a suggestion is accepted': async () =>
    accepts(
      await opened('word.py'),
      CURSOR,
      'editor.action.inlineSuggest.acceptNextWord',
      '    shelf.add',
    ),

  'the next line of a suggestion is accepted': async () =>
    accepts(
      await opened('line.py'),
      CURSOR,
      'editor.action.inlineSuggest.acceptNextLine',
      WHOLE,
    ),

  'the command of the palette asks for a suggestion': async () => {
    const editor = await opened('asked.py');
    editor.selection = new vscode.Selection(CURSOR, CURSOR);
    await vscode.commands.executeCommand('qcoder.complete');
    await accepts(editor, CURSOR, ACCEPT, WHOLE);
  },

  'a suggestion that is hidden inserts nothing': async () => {
    const editor = await opened('hidden.py');
    editor.selection = new vscode.Selection(CURSOR, CURSOR);
    await vscode.commands.executeCommand('editor.action.inlineSuggest.trigger');
    await vscode.commands.executeCommand('editor.action.inlineSuggest.hide');
    await vscode.commands.executeCommand(ACCEPT);
    assert.equal(editor.document.getText(), SOURCE);
  },

  'an emoji before the cursor moves nothing': async () => {
    const text = SOURCE.replace('    shelf.', '    "🙂é"; shelf.');
    const place = new vscode.Position(9, '    "🙂é"; shelf.'.length);
    await accepts(await opened('emoji.py', text), place, ACCEPT, `    "🙂é"; shelf.${SUGGESTION}`);
  },

  'line ends of Windows are kept': async () => {
    const editor = await opened('windows.py', SOURCE.replaceAll('\n', '\r\n'));
    await accepts(editor, CURSOR, ACCEPT, WHOLE);
    assert.equal(editor.document.eol, vscode.EndOfLine.CRLF);
    assert.equal(editor.document.getText().replaceAll('\r\n', '').includes('\n'), false);
  },

  'a document that was never saved gets suggestions': async () => {
    const document = await vscode.workspace.openTextDocument({ language: 'python', content: SOURCE });
    const editor = await vscode.window.showTextDocument(document);
    await accepts(editor, CURSOR, ACCEPT, WHOLE);
    await vscode.commands.executeCommand('workbench.action.revertAndCloseActiveEditor');
  },

  'other languages get suggestions': async () => {
    for (const [name, line] of [
      ['shelf.ts', 'shelf.'],
      ['shelf.go', 'shelf.'],
      ['shelf.rs', 'shelf.'],
    ] as const) {
      const place = new vscode.Position(0, line.length);
      await accepts(await opened(name, `${line}\n`), place, ACCEPT, `${line}${SUGGESTION}`);
    }
  },

  'a language that the extension does not serve stays quiet': async () =>
    staysEmpty(await opened('notes.txt', 'shelf.\n'), new vscode.Position(0, 6)),

  'a file that looks like a secret stays quiet': async () =>
    staysEmpty(await opened('credentials.py', SOURCE), CURSOR),

  'completion can be switched off': async () =>
    withSetting('completion.enabled', false, async () => staysEmpty(await opened('off.py'), CURSOR)),

  'suggestions are entries of the menu where the user wants them': async () =>
    withSetting('completion.menu', 'always', async () => {
      const { document } = await opened('menu.py');
      for (let attempt = 0; ; attempt++) {
        const list = await vscode.commands.executeCommand<vscode.CompletionList>(
          'vscode.executeCompletionItemProvider',
          document.uri,
          CURSOR,
        );
        if (list.items.some((item) => item.detail === 'qcoder')) {
          return;
        }
        assert.ok(attempt < 50, 'an entry of qcoder');
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }),
};
