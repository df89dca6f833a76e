// Drives the built extension in a real VS Code like a user: node dist/e2e/run.js [IMAGES]
//
// Environment: QCODER_SERVER (path of qcoder-lsp), QCODER_VSIX; E2E_ONLY=name runs one scenario.
// The model is the default one, as on a user's machine.

import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import type { Browser } from 'playwright-core';

import { hostTests } from './host_tests';
import { install } from './scenario_install';
import { trust } from './scenario_trust';
import { work } from './scenario_work';
import { launchBrowser } from './window';

export interface Run {
  browser: Browser;
  /** A folder of this scenario alone. */
  folder: string;
  server: string;
  vsix: string;
  images: string | undefined;
  /** Says that something was seen. */
  seen(what: string): void;
}

const SCENARIOS: Record<string, (run: Run) => Promise<void>> = {
  host: hostTests,
  work,
  trust,
  install,
};

async function main(): Promise<number> {
  const server = process.env['QCODER_SERVER'];
  const vsix = process.env['QCODER_VSIX'];
  if (server === undefined || vsix === undefined) {
    throw new Error('QCODER_SERVER and QCODER_VSIX name the server and the built extension');
  }
  const images = process.argv[2];
  if (images !== undefined) {
    fs.mkdirSync(images, { recursive: true });
  }
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'qcoder-e2e-'));
  const browser = await launchBrowser();
  let failed = 0;
  const only = process.env['E2E_ONLY']?.split(',');
  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    if (only !== undefined && !only.includes(name)) {
      continue;
    }
    const began = Date.now();
    const folder = path.join(home, name);
    fs.mkdirSync(folder);
    const seen = (what: string) => console.log(`ok   ${name}: ${what}`);
    try {
      await scenario({ browser, folder, server, vsix, images, seen });
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}: ${String(error)}`);
      for (const context of browser.contexts()) {
        for (const page of context.pages()) {
          await page.screenshot({ path: path.join(home, `${name}-failed.png`) });
        }
      }
    }
    for (const context of browser.contexts()) {
      await context.close();
    }
    console.log(`     ${name} took ${((Date.now() - began) / 1000).toFixed(0)} s`);
  }
  await browser.close();
  console.log(failed === 0 ? 'passed' : `${failed} failed; logs and pictures in ${home}`);
  if (failed === 0) {
    fs.rmSync(home, { recursive: true, force: true });
  }
  return failed === 0 ? 0 : 1;
}

if (require.main === module) {
  main().then(
    (code) => process.exit(code),
    (error: unknown) => {
      console.error(error);
      process.exit(2);
    },
  );
}
