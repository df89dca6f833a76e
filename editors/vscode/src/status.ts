// The status bar item: what the server is doing, and the menu behind a click.

import * as vscode from 'vscode';

import type { StatusKind, StatusParams } from './protocol';

const ICONS: Readonly<Record<StatusKind, string>> = {
  Normal: '$(sparkle)',
  Busy: '$(sync~spin)',
  Warning: '$(warning)',
  Error: '$(error)',
  Inactive: '$(circle-slash)',
};

const BACKGROUNDS: Readonly<Partial<Record<StatusKind, string>>> = {
  Warning: 'statusBarItem.warningBackground',
  Error: 'statusBarItem.errorBackground',
};

export function createStatusItem(menuCommand: string): vscode.StatusBarItem {
  const item = vscode.window.createStatusBarItem('qcoder.status', vscode.StatusBarAlignment.Right, 90);
  item.name = 'qcoder';
  item.command = menuCommand;
  showStatus(item, { kind: 'Inactive', message: 'starting' });
  item.show();
  return item;
}

export function showStatus(item: vscode.StatusBarItem, status: StatusParams): void {
  const background = BACKGROUNDS[status.kind];
  item.text = `${ICONS[status.kind]} qcoder`;
  item.tooltip = status.message ?? 'ready';
  item.backgroundColor = background === undefined ? undefined : new vscode.ThemeColor(background);
}
