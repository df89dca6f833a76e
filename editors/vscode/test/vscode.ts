// Stands in for the `vscode` module in unit tests: only what the tested code reads.

export interface Inspection {
  defaultValue?: unknown;
  globalValue?: unknown;
  workspaceValue?: unknown;
  workspaceFolderValue?: unknown;
}

export const settings = new Map<string, Inspection>();

function effective(inspection: Inspection | undefined): unknown {
  return (
    inspection?.workspaceFolderValue ??
    inspection?.workspaceValue ??
    inspection?.globalValue ??
    inspection?.defaultValue
  );
}

export const workspace = {
  isTrusted: true,
  workspaceFolders: undefined,
  getConfiguration: (_section: string) => ({
    get: (key: string) => effective(settings.get(key)),
    inspect: (key: string) => settings.get(key),
  }),
};

export const extensions = { getExtension: () => undefined };
