// What a user does in the window, and what there is to see.

import * as path from 'node:path';

import { type Browser, chromium, type Locator, type Page } from 'playwright-core';

const WAIT_MS = 30_000;
const GHOST = '[class*=ghost-text]';

export async function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
    // Without a sandbox because tests often run as root in a container.
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
}

export class Window {
  private constructor(
    readonly page: Page,
    private readonly images: string | undefined,
  ) {}

  /** Opens a folder in a new page; screenshots go to `images`, or nowhere. */
  static async open(
    browser: Browser,
    url: string,
    folder: string,
    images: string | undefined,
  ): Promise<Window> {
    const context = await browser.newContext({ viewport: { width: 1200, height: 720 } });
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT_MS);
    await page.goto(`${url}/?folder=${folder}`);
    await page.locator('.monaco-workbench .activitybar').waitFor();
    return new Window(page, images);
  }

  get statusItem(): Locator {
    return this.page.locator('.statusbar-item[id="qcoder.qcoder.status"], .statusbar-item', {
      hasText: /^\s*qcoder\s*$/,
    });
  }

  /** Until the server has nothing to do: the item shows its resting icon. */
  async ready(): Promise<void> {
    await this.statusItem.locator('.codicon-sparkle').first().waitFor();
  }

  async type(text: string): Promise<void> {
    await this.page.keyboard.type(text, { delay: 40 });
  }

  async press(...keys: string[]): Promise<void> {
    for (const key of keys) {
      await this.page.keyboard.press(key);
    }
  }

  async openFile(name: string): Promise<void> {
    await this.quick('Control+P', name, name);
    await this.page.locator('.tab.active', { hasText: path.basename(name) }).waitFor();
    await this.page.locator('.monaco-editor .view-lines').first().click();
  }

  /** Runs a command of the palette. */
  async run(title: string): Promise<void> {
    await this.quick('F1', `>${title}`, title);
  }

  /** Puts the cursor at the end of a line, counted from 1. */
  async endOfLine(line: number): Promise<void> {
    await this.press('Control+G');
    const input = this.page.locator('.quick-input-widget input').first();
    await input.waitFor({ state: 'visible' });
    await input.fill(`:${line}`);
    await this.press('Enter', 'End');
  }

  /** The grey text, once there is some. */
  async ghost(): Promise<string> {
    const seen = await this.page.waitForFunction(
      `(() => {
        const shown = [...document.querySelectorAll('${GHOST}')].filter((e) => e.getClientRects().length);
        const top = (e) => e.getClientRects()[0].top;
        // A colour changes within a line too, and each has an element of its own.
        return shown.map((e, i) => (i && top(e) !== top(shown[i - 1]) ? '\\n' : '') + e.textContent).join('').trim();
      })()`,
    );
    return plain(String(await seen.jsonValue()));
  }

  /** Waits until a line of the editor, as it is drawn, is exactly this. */
  async lineIs(text: string): Promise<void> {
    await this.until(`line ${JSON.stringify(text)}`, async () => (await this.lines()).includes(text));
  }

  /** Lines of the editor that are on the screen, ghost text included. */
  async lines(): Promise<string[]> {
    const drawn = this.page.locator('.editor-instance .monaco-editor .view-lines > .view-line');
    const rows = await drawn.evaluateAll((lines) =>
      lines.map((line) => ({
        top: Number.parseFloat((line as unknown as { style: { top: string } }).style.top),
        text: line.textContent ?? '',
      })),
    );
    return rows.sort((a, b) => a.top - b.top).map((row) => plain(row.text).trimEnd());
  }

  async until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const end = Date.now() + WAIT_MS;
    while (!(await condition())) {
      if (Date.now() > end) {
        throw new Error(`no ${what}; on the screen: ${JSON.stringify(await this.lines())}`);
      }
      await this.page.waitForTimeout(50);
    }
  }

  /** Titles of the light bulb's menu at the cursor. */
  async lightBulb(): Promise<Locator> {
    const rows = this.page.locator('.action-widget .monaco-list-row');
    // The menu closes by itself when new diagnostics come in while it opens.
    for (let attempt = 0; attempt < 5 && (await rows.count()) === 0; attempt++) {
      await this.press('Control+.');
      await rows.first().waitFor({ timeout: 5000 }).catch(() => undefined);
    }
    return rows;
  }

  /** Until a rendered page shows a text. */
  async preview(text: string): Promise<void> {
    await this.until(`page with ${text}`, async () => {
      const texts = this.page.frames().map(async (frame) => frame.locator('body').innerText({ timeout: 1000 }));
      const shown = await Promise.allSettled(texts);
      return shown.some((each) => each.status === 'fulfilled' && each.value.includes(text));
    });
  }

  async screenshot(name: string): Promise<void> {
    if (this.images !== undefined) {
      await this.page.waitForTimeout(300); // until what fades in is there
      await this.page.screenshot({ path: path.join(this.images, `${name}.png`) });
    }
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }

  /** Waits for the row before Enter, or Enter meets an empty list. */
  private async quick(key: string, text: string, row: string): Promise<void> {
    await this.press(key);
    const input = this.page.locator('.quick-input-widget input').first();
    await input.waitFor({ state: 'visible' });
    await input.fill(text);
    await this.page
      .locator('.quick-input-list .monaco-list-row', { hasText: row })
      .first()
      .waitFor();
    await this.page.waitForTimeout(200);
    await this.press('Enter');
  }
}

function plain(text: string): string {
  return text.replace(/\u00a0/g, ' ').replace(/\u200c|\u200b/g, '');
}
