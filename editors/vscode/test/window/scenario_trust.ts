// A workspace chooses the server's program once it is trusted, and not before.

import * as fs from 'node:fs';
import * as path from 'node:path';

import { startCodeServer } from './code_server';
import { processes } from './processes';
import type { Run } from './run';
import { Window } from './window';
import { makeWorkspace, TYPED } from './workspace';

export async function trust(run: Run): Promise<void> {
  const workspace = makeWorkspace(path.join(run.folder, 'shop'));
  const marker = path.join(run.folder, 'executed');
  const program = path.join(workspace, 'qcoder-lsp');
  fs.writeFileSync(program, `#!/bin/sh\ntouch ${marker}\nexec ${run.server} "$@"\n`, { mode: 0o755 });
  fs.mkdirSync(path.join(workspace, '.vscode'));
  const settings = { 'qcoder.serverPath': program };
  fs.writeFileSync(path.join(workspace, '.vscode', 'settings.json'), JSON.stringify(settings));
  const server = await startCodeServer({
    folder: run.folder,
    workspace,
    vsix: run.vsix,
    settings: { 'qcoder.serverPath': run.server, 'security.workspace.trust.startupPrompt': 'always' },
    arguments: [],
  });
  try {
    const window = await Window.open(run.browser, server.url, workspace, run.images);
    const dialog = window.page.locator('.monaco-dialog-box');
    await dialog.waitFor();
    await dialog.getByRole('button', { name: /No, I don/ }).click();
    await window.openFile('inventory.py');
    await window.ready();
    await window.press('Control+End');
    await window.type(TYPED);
    await window.ghost();
    run.seen('suggestions come in restricted mode');
    const [before] = processes(run.server);
    if (before === undefined || fs.existsSync(marker)) {
      throw new Error('the program of the workspace was started instead of the user’s');
    }
    run.seen("the user's server runs, not the workspace's");
    await window.run('Workspaces: Manage Workspace Trust');
    await window.page.locator('.workspace-trust-editor').waitFor();
    await window.page.locator('.workspace-trust-editor .monaco-button', { hasText: /^Trust$/ }).first().click();
    await window.until("the workspace's program", () => Promise.resolve(fs.existsSync(marker)));
    await window.until('end of the first server', () =>
      Promise.resolve(!processes(run.server).some(([pid]) => pid === before[0])),
    );
    await window.ready();
    run.seen("when the workspace is trusted, its program takes the server's place");
  } finally {
    await server.stop();
  }
}
