// The connection to the server: made, replaced and ended here. One at a time.

import * as vscode from 'vscode';
import {
  type ConfigurationParams,
  LanguageClient,
  type LanguageClientOptions,
  State,
} from 'vscode-languageclient/node';

import { explicitOptions } from './config';
import { STATUS, type StatusParams } from './protocol';
import { findServer } from './server';

const STOP_MS = 5000;

/** A server answers `initialize` at once; its model loads afterwards. */
const START_MS = 60_000;

export const INSTALL_SERVER = 'qcoder.installServer';

const LANGUAGES = [
  'python', 'javascript', 'javascriptreact', 'typescript', 'typescriptreact', 'go', 'rust',
  'java', 'c', 'cpp', 'csharp', 'ruby', 'php', 'shellscript',
  'kotlin', 'swift', 'scala', 'lua', 'haskell', 'sql',
];

export class Connection implements vscode.Disposable {
  private client: LanguageClient | undefined;
  private queue: Promise<void> = Promise.resolve();

  /**
   * `keys` are the declared setting names; `report` is told about every change of status;
   * `environment` is where the extension installs a server.
   */
  constructor(
    private readonly log: vscode.LogOutputChannel,
    private readonly keys: readonly string[],
    private readonly report: (status: StatusParams) => void,
    private readonly environment: string,
  ) {}

  /** The running client; undefined while there is none. */
  get running(): LanguageClient | undefined {
    return this.client?.state === State.Running ? this.client : undefined;
  }

  /** Ends the server that runs, if any, and starts one. Calls in quick succession take turns. */
  restart(): Promise<void> {
    return this.next(async () => {
      await this.end();
      await this.start();
    });
  }

  stop(): Promise<void> {
    return this.next(() => this.end());
  }

  /** Takes its turn behind what is under way, whatever becomes of that. */
  private next(work: () => Promise<void>): Promise<void> {
    this.queue = this.queue.catch(() => undefined).then(work);
    return this.queue;
  }

  dispose(): void {
    void this.stop();
  }

  private async start(): Promise<void> {
    const found = await findServer(this.environment);
    if ('problem' in found) {
      this.report({ kind: 'Error', message: found.problem });
      void offerHelp(found.problem);
      return;
    }
    this.log.info(`starting ${found.command}`);
    const server = { command: found.command, args: ['--stdio'] };
    const client = new LanguageClient('qcoder', 'qcoder', server, this.options());
    client.onNotification(STATUS, (status) => this.report(status));
    client.onDidChangeState((change) => {
      if (change.newState === State.Stopped) {
        this.report({ kind: 'Inactive', message: 'the server is not running' });
      }
    });
    this.client = client;
    try {
      await within(START_MS, client.start());
    } catch (error) {
      const problem = `qcoder: ${found.command} did not start: ${String(error)}`;
      this.log.error(problem);
      this.report({ kind: 'Error', message: problem });
    }
  }

  private async end(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    try {
      if (client?.state === State.Running) {
        await client.stop(STOP_MS);
      }
      // One that never came up does not end in order either.
      await within(STOP_MS, client?.dispose() ?? Promise.resolve());
    } catch (error) {
      // A server that is busy may be late with its answer; it is ended all the same.
      this.log.warn(`ending the server: ${String(error)}`);
    }
  }

  private options(): LanguageClientOptions {
    return {
      documentSelector: ['file', 'untitled'].flatMap((scheme) =>
        LANGUAGES.map((language) => ({ scheme, language })),
      ),
      outputChannel: this.log,
      // A workspace that becomes trusted restarts the server (extension.ts).
      initializationOptions: {
        ...explicitOptions(undefined, this.keys),
        trusted: vscode.workspace.isTrusted,
      },
      synchronize: { configurationSection: 'qcoder' },
      middleware: {
        workspace: {
          // Answered with what the user has set, without the defaults of package.json.
          configuration: (params: ConfigurationParams) =>
            params.items.map((item) =>
              explicitOptions(
                item.scopeUri === undefined ? undefined : vscode.Uri.parse(item.scopeUri),
                this.keys,
              ),
            ),
          didChangeConfiguration: async (_sections, _next) => {
            await this.running?.sendNotification('workspace/didChangeConfiguration', {
              settings: { qcoder: explicitOptions(undefined, this.keys) },
            });
          },
        },
      },
    };
  }
}

/** Fails where the work takes longer: whoever waits for its turn must not wait for ever. */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms / 1000} seconds`)), ms);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function offerHelp(problem: string): Promise<void> {
  const offers: Record<string, () => Thenable<unknown>> = {
    'Install Server': () => vscode.commands.executeCommand(INSTALL_SERVER),
    'Open Setting': () =>
      vscode.commands.executeCommand('workbench.action.openSettings', 'qcoder.serverPath'),
  };
  const chosen = await vscode.window.showErrorMessage(problem, ...Object.keys(offers));
  await (chosen === undefined ? undefined : offers[chosen]?.());
}
