// A user's morning: a suggestion taken whole, by word, behind a menu's entry; a docstring; a review
// with its fix; the menu of the status item; a server that dies.

import * as path from 'node:path';

import { startCodeServer } from './code_server';
import { processes } from './processes';
import type { Run } from './run';
import { Window } from './window';
import { CHANGED, makeWorkspace, TYPED } from './workspace';

export async function work(run: Run): Promise<void> {
  const workspace = makeWorkspace(path.join(run.folder, 'shop'));
  const server = await startCodeServer({
    folder: run.folder,
    workspace,
    vsix: run.vsix,
    settings: { 'qcoder.serverPath': run.server },
  });
  try {
    const window = await Window.open(run.browser, server.url, workspace, run.images);
    await suggestions(run, window);
    await menu(run, window);
    await docstring(run, window);
    await review(run, window);
    await changes(run, window);
    await pages(run, window);
    await killed(run, window);
  } finally {
    await server.stop();
  }
}

async function suggestions(run: Run, window: Window): Promise<void> {
  await window.openFile('inventory.py');
  await window.ready();
  run.seen('the status item rests when the server is ready');
  await window.press('Control+End');
  await window.type(TYPED);
  const ghost = await window.ghost();
  run.seen(`ghost text ${JSON.stringify(ghost)}`);
  await window.screenshot('vscode-suggestion');
  await window.press('Control+ArrowRight');
  const [word] = /^\W*\w+/.exec(ghost) ?? [''];
  await window.until('accepted word', async () =>
    (await window.lines()).some((line) => line.startsWith(`${TYPED}${word}`)),
  );
  run.seen(`Ctrl+Right takes ${JSON.stringify(word)}`);
  await window.ghost();
  await window.press('Tab');
  await window.lineIs(`${TYPED}${ghost}`);
  run.seen('Tab takes the rest');
}

async function menu(run: Run, window: Window): Promise<void> {
  await window.press('Enter');
  await window.type('source.rem');
  await window.press('Control+Space');
  const rows = window.page.locator('.suggest-widget.visible .monaco-list-row');
  await rows.first().waitFor();
  run.seen(`suggest list: ${JSON.stringify((await rows.allInnerTexts()).slice(0, 3))}`);
  const ghost = await window.ghost();
  run.seen(`ghost text behind the chosen entry: ${JSON.stringify(ghost)}`);
  await window.screenshot('vscode-menu');
  await window.press('Escape', 'Escape');
  await window.run('File: Revert File');
  await window.until('file as it was', async () => !(await window.lines()).join().includes('for item in'));
}

async function docstring(run: Run, window: Window): Promise<void> {
  await window.openFile('report.py');
  await window.endOfLine(6);
  const rows = await window.lightBulb();
  const offer = rows.filter({ hasText: 'Generate docstring' }).first();
  await offer.waitFor();
  await window.screenshot('vscode-docstring');
  await offer.click();
  await window.until('docstring', async () => ((await window.lines())[6] ?? '').includes('"""'));
  run.seen(`docstring: ${JSON.stringify((await window.lines())[6]?.trim())}`);
}

async function review(run: Run, window: Window): Promise<void> {
  await window.run('File: Revert File');
  await window.page.locator('.squiggly-warning, .squiggly-error').first().waitFor();
  run.seen('a finding is underlined');
  await window.endOfLine(7);
  const rows = await window.lightBulb();
  await rows.first().waitFor();
  await window.screenshot('vscode-review');
  await rows.filter({ hasText: /with/i }).first().click();
  await window.lineIs('    with open(path, encoding=encoding) as handle:');
  run.seen('the quick fix is applied');
  await window.page.locator('.squiggly-warning, .squiggly-error').first().waitFor({ state: 'detached' });
  run.seen('the finding is gone');
  await window.run('File: Revert File');
}

/** The finding is in a file that nobody opened. */
async function changes(run: Run, window: Window): Promise<void> {
  const texts = await recordStatusBar(window);
  await window.run('qcoder: Review Changes');
  const toast = window.page.locator('.notifications-toasts .notification-list-item-message');
  await toast.filter({ hasText: new RegExp(`findings? in \\d+ of ${CHANGED + 1} changed files`) }).waitFor();
  await window.page.locator('.markers-panel .monaco-list-row', { hasText: 'journal.py' }).waitFor();
  run.seen('Review Changes finds a leak in a file that is not open');
  const told = await texts();
  if (!told.some((text) => text.includes('reviewing changes'))) {
    throw new Error(`no progress was shown: ${JSON.stringify(told)}`);
  }
  run.seen('progress was shown meanwhile');
  await window.screenshot('vscode-problems');
  await window.press('Control+J');
}

/** Everything that the status bar says from now on. */
async function recordStatusBar(window: Window): Promise<() => Promise<string[]>> {
  await window.page.evaluate(`(() => {
    const bar = document.querySelector('.part.statusbar');
    globalThis.told = [];
    new MutationObserver(() => globalThis.told.push(bar.textContent)).observe(bar, {
      childList: true, subtree: true, characterData: true, attributes: true,
    });
  })()`);
  return async () => (await window.page.evaluate('globalThis.told')) as string[];
}

async function pages(run: Run, window: Window): Promise<void> {
  await window.openFile('inventory.py');
  await window.statusItem.first().click();
  const rows = window.page.locator('.quick-input-list .monaco-list-row');
  await rows.first().waitFor();
  await window.screenshot('vscode-status-menu');
  await rows.filter({ hasText: 'Show Statistics' }).click();
  await window.preview('shown');
  run.seen('the menu of the status item opens the statistics');
  await window.run('qcoder: Explain Last Suggestion');
  await window.preview('a suggestion was made');
  await window.screenshot('vscode-explain');
  run.seen('the last suggestion is explained');
}

async function killed(run: Run, window: Window): Promise<void> {
  await window.openFile('inventory.py');
  const [before] = processes(run.server);
  if (before === undefined) {
    throw new Error(`no process runs ${run.server}`);
  }
  process.kill(before[0], 'SIGKILL');
  await window.until('new server', async () =>
    processes(run.server).some(([pid]) => pid !== before[0]),
  );
  await window.ready();
  await window.press('Control+End');
  await window.type(TYPED);
  run.seen(`after kill -9 a new server suggests ${JSON.stringify(await window.ghost())}`);
}
