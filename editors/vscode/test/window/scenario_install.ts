// A machine with Python but without the server: the extension installs what it brings.

import * as fs from 'node:fs';
import * as path from 'node:path';

import { NODE, startCodeServer } from './code_server';
import type { Run } from './run';
import { Window } from './window';
import { makeWorkspace, TYPED } from './workspace';

const INSTALL_MS = 300_000;

export async function install(run: Run): Promise<void> {
  const workspace = makeWorkspace(path.join(run.folder, 'shop'));
  // Programs of the tests' own environment must not be found.
  const own = path.dirname(run.server);
  const kept = (process.env['PATH'] ?? '').split(path.delimiter).filter((folder) => folder !== own);
  const server = await startCodeServer({
    folder: run.folder,
    workspace,
    vsix: run.vsix,
    settings: {},
    environment: {
      PATH: [NODE, ...kept].join(path.delimiter),
      PIP_CONSTRAINT: process.env['QCODER_CONSTRAINTS'],
      VIRTUAL_ENV: undefined,
    },
  });
  try {
    const window = await Window.open(run.browser, server.url, workspace, run.images);
    await window.openFile('inventory.py');
    const toast = window.page.locator('.notifications-toasts .notification-toast');
    await toast.filter({ hasText: 'was not found' }).getByRole('button', { name: 'Install Server' }).click();
    const dialog = window.page.locator('.monaco-dialog-box');
    await dialog.waitFor();
    await window.screenshot('vscode-install');
    await dialog.getByRole('button', { name: 'Install' }).click();
    await toast.filter({ hasText: 'installing the server' }).waitFor();
    run.seen('the installation shows its progress');
    await window.statusItem.locator('.codicon-sparkle').first().waitFor({ timeout: INSTALL_MS });
    await window.press('Control+End');
    await window.type(TYPED);
    run.seen(`the installed server suggests ${JSON.stringify(await window.ghost())}`);
    const storage = path.join(run.folder, 'data', 'User', 'globalStorage', 'qcoder.qcoder');
    run.seen(`it lies in ${fs.readdirSync(storage).join(', ')} of the extension's storage`);
  } finally {
    await server.stop();
  }
}
