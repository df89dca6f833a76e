// What the user has set, and only that. VS Code fills in the defaults of package.json for every
// setting; sending those would override the user's own qcoder.toml with values nobody chose.

import * as vscode from 'vscode';

const SECTION = 'qcoder';

/** Settings of the extension itself; the server does not know them. */
const OWN_KEYS = new Set(['serverPath', 'trace.server']);

export type Options = { [key: string]: unknown };

/** Absolute path or command name of `qcoder-lsp`; undefined means: look for it. */
export function serverPath(): string | undefined {
  const value = vscode.workspace.getConfiguration(SECTION).get<string>('serverPath')?.trim();
  return value === undefined || value === '' ? undefined : value;
}

/** Everything set explicitly in user, workspace or folder settings, as nested options. */
export function explicitOptions(scope: vscode.Uri | undefined, keys: readonly string[]): Options {
  const config = vscode.workspace.getConfiguration(SECTION, scope ?? null);
  const options: Options = {};
  for (const key of keys) {
    if (OWN_KEYS.has(key) || !isSet(config.inspect(key))) {
      continue;
    }
    put(options, key.split('.'), config.get(key));
  }
  return options;
}

/** The setting names that package.json declares, without the `qcoder.` in front. */
export function declaredKeys(manifest: unknown): string[] {
  const properties = (manifest as Manifest).contributes?.configuration?.properties ?? {};
  return Object.keys(properties).map((key) => key.slice(SECTION.length + 1));
}

interface Manifest {
  contributes?: { configuration?: { properties?: Record<string, unknown> } };
}

interface Inspected {
  globalValue?: unknown;
  workspaceValue?: unknown;
  workspaceFolderValue?: unknown;
  globalLanguageValue?: unknown;
  workspaceLanguageValue?: unknown;
  workspaceFolderLanguageValue?: unknown;
}

function isSet(inspected: Inspected | undefined): boolean {
  return (
    inspected !== undefined &&
    [
      inspected.globalValue,
      inspected.workspaceValue,
      inspected.workspaceFolderValue,
      inspected.globalLanguageValue,
      inspected.workspaceLanguageValue,
      inspected.workspaceFolderLanguageValue,
    ].some((value) => value !== undefined)
  );
}

function put(options: Options, path: readonly string[], value: unknown): void {
  const [head, ...rest] = path;
  if (head === undefined) {
    return;
  }
  if (rest.length === 0) {
    options[head] = value;
    return;
  }
  const inner = (options[head] ?? {}) as Options;
  options[head] = inner;
  put(inner, rest, value);
}
