import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';

import * as vscode from 'vscode';

import {
  applyAction,
  codes,
  opened,
  SOURCE,
  type Test,
  until,
  withSetting,
  workspace,
} from './editor';

const LEAK = 'resource-leak';

export const REVIEW: Record<string, Test> = {
  'an opened file is reviewed': async () => {
    const { document } = await opened('reviewed.py');
    await until('finding', () => codes(document.uri).includes(LEAK));
    const [finding] = vscode.languages.getDiagnostics(document.uri);
    assert.equal(finding?.source, 'qcoder');
    assert.equal(finding.range.start.line, 4);
  },

  'a quick fix mends a finding': async () => {
    const { document } = await opened('mended.py');
    await until('finding', () => codes(document.uri).includes(LEAK));
    await applyAction(document, 4, 'Fix: with open(path) as handle:');
    assert.equal(document.lineAt(5).text, '        return handle.read()');
    await until('end of the finding', () => !codes(document.uri).includes(LEAK));
  },

  'a comment excuses a finding': async () => {
    const { document } = await opened('excused.py');
    await until('finding', () => codes(document.uri).includes(LEAK));
    await applyAction(document, 4, 'Ignore resource-leak');
    assert.match(document.lineAt(4).text, /# qcoder: ignore\[resource-leak\]$/);
    await until('end of the finding', () => !codes(document.uri).includes(LEAK));
  },

  'a finding comes while the user types': async () => {
    const editor = await opened('typed.py', '"""Typed."""\n');
    await editor.edit((edit) => edit.insert(new vscode.Position(1, 0), SOURCE.slice(16, 80)));
    await until('finding', () => codes(editor.document.uri).includes(LEAK));
  },

  'the command reviews the file again': async () => {
    const { document } = await opened('again.py');
    await vscode.commands.executeCommand('qcoder.review');
    await until('finding', () => codes(document.uri).filter((code) => code === LEAK).length === 1);
  },

  'no finding is there twice': async () => {
    const { document } = await opened('saved.py');
    await document.save();
    await vscode.commands.executeCommand('qcoder.review');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assert.deepEqual(codes(document.uri).filter((code) => code === LEAK), [LEAK]);
  },

  'a rule that is switched off is silent at once': async () => {
    const { document } = await opened('silent.py');
    await until('finding', () => codes(document.uri).includes(LEAK));
    await withSetting('review.disabledRules', [LEAK], () =>
      until('silence', () => !codes(document.uri).includes(LEAK)),
    );
    await until('finding again', () => codes(document.uri).includes(LEAK));
  },

  'a closed file has no findings': async () => {
    const { document } = await opened('closed.py');
    await until('finding', () => codes(document.uri).includes(LEAK));
    await vscode.commands.executeCommand('workbench.action.closeActiveEditor');
    await until('no finding', () => codes(document.uri).length === 0);
  },

  'a renamed file keeps its findings under its new name': async () => {
    const { document } = await opened('before.py');
    await until('finding', () => codes(document.uri).includes(LEAK));
    const renamed = vscode.Uri.file(path.join(workspace(), 'after.py'));
    const edit = new vscode.WorkspaceEdit();
    edit.renameFile(document.uri, renamed);
    assert.ok(await vscode.workspace.applyEdit(edit));
    await until('finding', () => codes(renamed).includes(LEAK));
  },

  'changes are reviewed in files that are not open': async () => {
    const journal = vscode.Uri.file(path.join(workspace(), 'journal.py'));
    assert.equal(codes(journal).length, 0);
    const counts = await vscode.commands.executeCommand<{ findings: number } | null>(
      'qcoder.reviewChanges',
    );
    assert.ok(counts && counts.findings >= 1, JSON.stringify(counts));
    await until('finding', () => codes(journal).includes(LEAK));
    const { document } = await opened('journal.py', fs.readFileSync(journal.fsPath, 'utf8'));
    await until('one finding', () => codes(document.uri).join() === LEAK);
  },
};
