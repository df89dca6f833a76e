// Runs inside the extension host of a real VS Code (--extensionTestsPath), against a real server
// with a scripted engine: QCODER_ENGINE='fake:add(item, amount)'. `make e2e-vscode` starts it.

import * as vscode from 'vscode';

import { COMPLETION } from './completion';
import { DOCUMENTATION } from './documentation';
import { opened, ready, type Test } from './editor';
import { REVIEW } from './review';
import { SERVER } from './server';

const TESTS: Record<string, Test> = { ...COMPLETION, ...DOCUMENTATION, ...REVIEW, ...SERVER };

/** Called by VS Code; a rejected promise is a failed run. */
export async function run(): Promise<void> {
  const first = await opened('first.py');
  await vscode.extensions.getExtension('qcoder.qcoder')?.activate();
  await vscode.window.showTextDocument(first.document);
  await ready();
  const failures: string[] = [];
  const chosen = process.env['E2E_TEST'];
  for (const [name, test] of Object.entries(TESTS)) {
    if (chosen !== undefined && chosen !== '' && !name.includes(chosen)) {
      continue;
    }
    try {
      await test();
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`FAIL ${name}: ${String(error)}`);
      failures.push(name);
    }
    await vscode.commands.executeCommand('workbench.action.files.saveAll');
    await vscode.commands.executeCommand('workbench.action.closeAllEditors');
  }
  console.log(`ok ${Object.keys(TESTS).length - failures.length} of ${Object.keys(TESTS).length} tests`);
  if (failures.length > 0) {
    throw new Error(failures.join('\n'));
  }
}
