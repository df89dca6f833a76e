// What the commands of package.json do. The work itself is the server's.

import * as vscode from 'vscode';

import type { LanguageClient } from 'vscode-languageclient/node';

import { type Connection, INSTALL_SERVER } from './client';
import type { Pages } from './documents';
import { explanationText, statisticsText } from './pages';
import {
  COMMAND_DOCSTRING,
  COMMAND_REINDEX,
  COMMAND_REVIEW,
  COMMAND_REVIEW_CHANGES,
  EXPLAIN_LAST,
  MODELS,
  STATISTICS,
} from './protocol';

export const SHOW_MENU = 'qcoder.menu';

/** Entries of the menu behind the status item, in this order. */
const MENU: readonly (readonly [label: string, command: string])[] = [
  ['$(lightbulb) Suggest Now', 'qcoder.complete'],
  ['$(question) Explain Last Suggestion', 'qcoder.explainLast'],
  ['$(graph) Show Statistics', 'qcoder.statistics'],
  ['$(search) Review File', 'qcoder.review'],
  ['$(git-compare) Review Changes', 'qcoder.reviewChanges'],
  ['$(note) Generate Docstring', 'qcoder.docstring'],
  ['$(notebook) Document File', 'qcoder.docstringFile'],
  ['$(chip) Pick Model', 'qcoder.pickModel'],
  ['$(sync) Index Workspace Again', 'qcoder.indexAgain'],
  ['$(settings) Open Settings', 'qcoder.settings'],
  ['$(output) Show Log', 'qcoder.showLog'],
  ['$(debug-restart) Restart Server', 'qcoder.restart'],
];

/** Registers every command; the result belongs into the extension's subscriptions. */
export function registerCommands(
  connection: Connection,
  log: vscode.LogOutputChannel,
  pages: Pages,
  install: () => Promise<void>,
): vscode.Disposable[] {
  const commands: Record<string, () => unknown> = {
    'qcoder.restart': () => connection.restart(),
    'qcoder.docstring': () => onServer(connection, COMMAND_DOCSTRING, cursor),
    'qcoder.docstringFile': () => onServer(connection, COMMAND_DOCSTRING, wholeFile),
    'qcoder.review': () => onServer(connection, COMMAND_REVIEW, file),
    'qcoder.reviewChanges': () => reviewChanges(connection),
    'qcoder.pickModel': () => pickModel(connection),
    [INSTALL_SERVER]: install,
    'qcoder.indexAgain': () => onServer(connection, COMMAND_REINDEX, nothing),
    'qcoder.complete': () => vscode.commands.executeCommand('editor.action.inlineSuggest.trigger'),
    'qcoder.explainLast': () => onPage(connection, pages, explainLast),
    'qcoder.statistics': () => onPage(connection, pages, statistics),
    'qcoder.settings': () =>
      vscode.commands.executeCommand('workbench.action.openSettings', '@ext:qcoder.qcoder'),
    'qcoder.showLog': () => log.show(),
    [SHOW_MENU]: showMenu,
  };
  return Object.entries(commands).map(([id, run]) => vscode.commands.registerCommand(id, run));
}

/** Arguments of a command, or undefined where there is no file to run it on. */
type Arguments = (editor: vscode.TextEditor | undefined) => unknown[] | undefined;

const cursor: Arguments = (editor) =>
  editor && [editor.document.uri.toString(), editor.selection.active.line];

const file: Arguments = (editor) => editor && [editor.document.uri.toString()];

const wholeFile: Arguments = (editor) => editor && [editor.document.uri.toString(), null];

const nothing: Arguments = () => [];

/** What the server answers; undefined where the command could not be sent. */
async function onServer(connection: Connection, command: string, make: Arguments): Promise<unknown> {
  const args = make(vscode.window.activeTextEditor);
  if (args === undefined) {
    void vscode.window.showInformationMessage('qcoder: open a file first.');
    return undefined;
  }
  return running(connection)?.sendRequest('workspace/executeCommand', { command, arguments: args });
}

/** The answer counts findings; the problems view lists them. */
async function reviewChanges(connection: Connection): Promise<unknown> {
  const counts = await onServer(connection, COMMAND_REVIEW_CHANGES, nothing);
  if ((counts as { findings?: number } | null | undefined)?.findings) {
    await vscode.commands.executeCommand('workbench.actions.view.problems');
  }
  return counts;
}

async function pickModel(connection: Connection): Promise<void> {
  const client = running(connection);
  if (client === undefined) {
    return;
  }
  const { current, models } = await client.sendRequest(MODELS);
  const entries = models.map(({ name, description }) => ({
    label: name,
    description: name === current ? `${description} (in use)` : description,
  }));
  const placeHolder = 'Another checkpoint: qcoder model import FOLDER --name NAME';
  const chosen = await vscode.window.showQuickPick(entries, { title: 'qcoder: model', placeHolder });
  if (chosen !== undefined) {
    await vscode.workspace
      .getConfiguration('qcoder')
      .update('model.name', chosen.label, vscode.ConfigurationTarget.Global);
  }
}

function running(connection: Connection): LanguageClient | undefined {
  if (connection.running === undefined) {
    void vscode.window.showWarningMessage('qcoder: the server is not running; see its log.');
  }
  return connection.running;
}

async function showMenu(): Promise<void> {
  const entries = MENU.map(([label, command]) => ({ label, command }));
  const chosen = await vscode.window.showQuickPick(entries, { title: 'qcoder' });
  if (chosen !== undefined) {
    await vscode.commands.executeCommand(chosen.command);
  }
}

type Page = (client: LanguageClient) => Promise<[name: string, markdown: string]>;

const statistics: Page = async (client) => [
  'qcoder statistics',
  statisticsText(await client.sendRequest(STATISTICS, { days: 30 })),
];

const explainLast: Page = async (client) => {
  const uri = vscode.window.activeTextEditor?.document.uri.toString();
  const facts = await client.sendRequest(EXPLAIN_LAST, uri === undefined ? null : { uri });
  return ['qcoder last suggestion', explanationText(facts)];
};

async function onPage(connection: Connection, pages: Pages, make: Page): Promise<void> {
  const client = running(connection);
  if (client !== undefined) {
    await pages.show(...(await make(client)));
  }
}
