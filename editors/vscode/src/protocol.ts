// What the server offers beyond the Language Server Protocol. Mirrors lsp_server/protocol.py;
// tests/test_architecture.py compares the two.

import { NotificationType, RequestType, RequestType0 } from 'vscode-languageclient/node';

export type StatusKind = 'Normal' | 'Busy' | 'Warning' | 'Error' | 'Inactive';

/** What the server is doing, sent whenever that changes; `reason` is for programs. */
export interface StatusParams {
  kind: StatusKind;
  message?: string;
  reason?: string;
}

export const STATUS = new NotificationType<StatusParams>('qcoder/status');

/** Answered with null at once. */
export const PING = new RequestType0<null, void>('qcoder/ping');

/** How the completions of this session were answered. */
export const COUNTS = new RequestType0<Record<string, number>, void>('qcoder/counts');

/** Why the latest completion request, of a document or of all, was answered as it was. */
export const EXPLAIN_LAST = new RequestType<{ uri?: string } | null, Record<string, unknown>, void>(
  'qcoder/explainLast',
);

/** The figures of `qcoder stats`. */
export const STATISTICS = new RequestType<{ days?: number } | null, Record<string, number | null>, void>(
  'qcoder/statistics',
);

/** The name in use and all models that the setting `model.name` takes. */
export const MODELS = new RequestType0<ModelsResult, void>('qcoder/models');

export interface ModelsResult {
  current: string;
  models: { name: string; description: string }[];
}

/** Commands that the server runs (workspace/executeCommand); the language client registers them. */
export const COMMAND_DOCSTRING = 'qcoder.generateDocstring';
export const COMMAND_REVIEW = 'qcoder.reviewFile';
export const COMMAND_REVIEW_CHANGES = 'qcoder.reviewSinceCommit';
export const COMMAND_REINDEX = 'qcoder.reindex';
export const COMMAND_RESTART = 'qcoder.restartEngine';
export const COMMAND_EXPLAIN_RULE = 'qcoder.explainRule';
export const COMMAND_EXPLAIN_CODE = 'qcoder.explainCode';
export const COMMAND_TEST = 'qcoder.writeTest';
