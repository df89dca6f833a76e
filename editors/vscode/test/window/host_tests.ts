// Runs the tests of test/host inside the extension host of a real VS Code, against a scripted engine.

import * as path from 'node:path';

import { startCodeServer } from './code_server';
import type { Run } from './run';
import { makeWorkspace } from './workspace';

const TESTS_MS = 300_000;

export async function hostTests(run: Run): Promise<void> {
  const workspace = makeWorkspace(path.join(run.folder, 'shop'));
  const extension = path.resolve(__dirname, '..', '..');
  const server = await startCodeServer({
    folder: run.folder,
    workspace,
    settings: { 'qcoder.serverPath': run.server },
    environment: { QCODER_SERVER: run.server, QCODER_ENGINE: 'fake:add(item, amount)' },
    // Lets a page name an extension and its tests.
    arguments: ['--disable-workspace-trust', '--vscode-option', 'enable-smoke-test-driver'],
  });
  try {
    const page = await (await run.browser.newContext()).newPage();
    let finish: (code: number) => void = () => undefined;
    const finished = new Promise<number>((resolve) => {
      finish = resolve;
    });
    await page.exposeFunction('codeAutomationLog', (_: string, [text]: unknown[]) => {
      const match = /^(ok|FAIL) (.*)$/s.exec(String(text));
      if (match !== null) {
        console.log(`${match[1]?.padEnd(4)} host: ${match[2]}`);
      }
    });
    await page.exposeFunction('codeAutomationExit', finish);
    const remote = (file: string) => `vscode-remote://${new URL(server.url).host}${file}`;
    const payload = [
      ['extensionDevelopmentPath', remote(extension)],
      ['extensionTestsPath', remote(path.join(extension, 'dist', 'host', 'index.js'))],
      ['skipWelcome', 'true'],
    ];
    await page.goto(`${server.url}/?folder=${workspace}&payload=${encodeURIComponent(JSON.stringify(payload))}`);
    const late = new Promise<string>((resolve) => setTimeout(() => resolve('too late'), TESTS_MS));
    const code = await Promise.race([finished, late]);
    if (code !== 0) {
      throw new Error(`the tests in the extension host ended with ${code}`);
    }
  } finally {
    await server.stop();
  }
}
