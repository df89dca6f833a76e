import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';

import * as vscode from 'vscode';

import {
  ACCEPT,
  accepts,
  api,
  CURSOR,
  opened,
  ready,
  SUGGESTION,
  tabLabels,
  type Test,
  until,
  withSetting,
} from './editor';

const WHOLE = `    shelf.${SUGGESTION}`;

function servers(): number[] {
  const listed = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' });
  return listed
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, parent, ...args]) => parent === String(process.pid) && args.join().includes('qcoder-lsp'))
    .map(([pid]) => Number(pid));
}

export const SERVER: Record<string, Test> = {
  'every command that is declared exists': async () => {
    const extension = vscode.extensions.getExtension('qcoder.qcoder');
    const manifest = extension?.packageJSON as {
      contributes: { commands: { command: string }[] };
    };
    const known = new Set(await vscode.commands.getCommands(true));
    const missing = manifest.contributes.commands.filter(({ command }) => !known.has(command));
    assert.deepEqual(missing, []);
    assert.ok(manifest.contributes.commands.length >= 14);
  },

  'the status rests when there is nothing to do': ready,

  'the last suggestion is explained on a page': async () => {
    await accepts(await opened('explained.py'), CURSOR, ACCEPT, WHOLE);
    await vscode.commands.executeCommand('qcoder.explainLast');
    await until('page', () => tabLabels().some((label) => label.includes('last suggestion')));
    const page = await vscode.workspace.openTextDocument(
      vscode.Uri.parse('qcoder:/qcoder last suggestion.md'),
    );
    assert.match(page.getText(), /\| reason \| `shown` \|/);
  },

  'statistics count what was accepted': async () => {
    await vscode.commands.executeCommand('qcoder.statistics');
    await until('page', () => tabLabels().some((label) => label.includes('statistics')));
    const page = await vscode.workspace.openTextDocument(
      vscode.Uri.parse('qcoder:/qcoder statistics.md'),
    );
    assert.match(page.getText(), /\| accepted \| [1-9]/);
    await vscode.commands.executeCommand('workbench.action.closeAllEditors');
  },

  'the model that runs is among those to pick': async () => {
    const picked = vscode.commands.executeCommand('qcoder.pickModel');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await vscode.commands.executeCommand('workbench.action.acceptSelectedQuickOpenItem');
    await picked;
    const settings = vscode.workspace.getConfiguration('qcoder');
    assert.equal(settings.inspect('model.name')?.globalValue, 'default');
    await settings.update('model.name', undefined, vscode.ConfigurationTarget.Global);
    await ready();
  },

  'the workspace is indexed again on request': async () => {
    await vscode.commands.executeCommand('qcoder.indexAgain');
    await ready();
  },

  'suggestions come after a restart': async () => {
    const [before] = servers();
    await vscode.commands.executeCommand('qcoder.restart');
    await accepts(await opened('restarted.py'), CURSOR, ACCEPT, WHOLE);
    assert.notEqual(servers()[0], before);
  },

  'there is one server, whatever was restarted': async () => {
    await Promise.all([1, 2, 3].map(() => vscode.commands.executeCommand('qcoder.restart')));
    await ready();
    await until('one server', () => servers().length === 1);
  },

  'a server that is killed comes back': async () => {
    const [before] = servers();
    assert.ok(before);
    process.kill(before, 'SIGKILL');
    await until('new server', () => servers().some((pid) => pid !== before));
    await accepts(await opened('killed.py'), CURSOR, ACCEPT, WHOLE);
  },

  'a server that is not there is told, and the setting put right starts one': async () => {
    await withSetting('serverPath', '/nowhere/qcoder-lsp', async () => {
      await until('error', () => api().status().kind === 'Error');
      assert.match(api().status().message ?? '', /\/nowhere\/qcoder-lsp/);
      await until('no server', () => servers().length === 0);
    });
    await ready();
  },
};
