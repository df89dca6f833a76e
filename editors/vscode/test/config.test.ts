import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import * as manifest from '../package.json';
import { declaredKeys, explicitOptions, serverPath } from '../src/config';
import { settings } from './vscode';

const KEYS = ['serverPath', 'completion.maxTokens', 'completion.enabled', 'model.name'];

beforeEach(() => settings.clear());

test('defaults of package.json are not sent', () => {
  settings.set('completion.maxTokens', { defaultValue: 48 });
  assert.deepEqual(explicitOptions(undefined, KEYS), {});
});

test('set values are nested by their dots', () => {
  settings.set('completion.maxTokens', { defaultValue: 48, globalValue: 64 });
  settings.set('completion.enabled', { defaultValue: true, workspaceValue: false });
  assert.deepEqual(explicitOptions(undefined, KEYS), {
    completion: { maxTokens: 64, enabled: false },
  });
});

test('settings of the extension itself stay in the extension', () => {
  settings.set('serverPath', { globalValue: '/opt/qcoder-lsp' });
  assert.deepEqual(explicitOptions(undefined, KEYS), {});
  assert.equal(serverPath(), '/opt/qcoder-lsp');
});

test('a blank server path is no server path', () => {
  settings.set('serverPath', { globalValue: '  ' });
  assert.equal(serverPath(), undefined);
});

test('the manifest declares its settings under one section', () => {
  const keys = declaredKeys(manifest);
  assert.ok(keys.includes('completion.maxTokens'));
  assert.ok(keys.every((key) => !key.startsWith('qcoder')));
});
