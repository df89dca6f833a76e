import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import { chooseServer, isFile } from '../src/server';

const PATH = '/usr/bin:relative:/opt/bin';
const OWN = '/storage/server';

function check(
  setting: string | undefined,
  python: string | undefined,
  files: string[],
  expected: string | RegExp,
  folder?: string,
): void {
  const found = chooseServer(setting, python, PATH, OWN, (file) => files.includes(file), folder);
  if (typeof expected === 'string') {
    assert.deepEqual(found, { command: expected });
  } else {
    assert.match('problem' in found ? found.problem : found.command, expected);
  }
}

test('the setting wins', () =>
  check('/my/qcoder-lsp', '/env/bin/python', ['/my/qcoder-lsp', '/env/bin/qcoder-lsp'], '/my/qcoder-lsp'));

test('a setting without a folder is searched on PATH', () =>
  check('qlsp', undefined, ['/opt/bin/qlsp'], '/opt/bin/qlsp'));

test('a setting that points nowhere is a problem, not a fallback', () =>
  check('/gone/qcoder-lsp', undefined, ['/opt/bin/qcoder-lsp'], /no such file/));

test('the active environment comes before PATH', () =>
  check(undefined, '/env/bin/python', ['/env/bin/qcoder-lsp', '/usr/bin/qcoder-lsp'], '/env/bin/qcoder-lsp'));

test('PATH is searched in order', () =>
  check(undefined, '/env/bin/python', ['/opt/bin/qcoder-lsp'], '/opt/bin/qcoder-lsp'));

test('a relative folder of PATH is not searched', () =>
  check(undefined, undefined, ['relative/qcoder-lsp'], /Install it here/));

test('what the extension has installed comes last', () => {
  const own = `${OWN}/bin/qcoder-lsp`;
  check(undefined, undefined, [own], own);
  check(undefined, undefined, [own, '/usr/bin/qcoder-lsp'], '/usr/bin/qcoder-lsp');
});

test('a relative setting is meant within a trusted workspace, and nothing elsewhere', () => {
  const files = ['.venv/bin/qcoder-lsp', '/repo/.venv/bin/qcoder-lsp'];
  check('.venv/bin/qcoder-lsp', undefined, files, /relative to a folder/);
  check('.venv/bin/qcoder-lsp', undefined, files, '/repo/.venv/bin/qcoder-lsp', '/repo');
});

test('an interpreter without a folder says nothing of the server', () =>
  check(undefined, 'python', ['qcoder-lsp', '/opt/bin/qcoder-lsp'], '/opt/bin/qcoder-lsp'));

test('a folder that may not be read is passed over', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'qcoder-'));
  const locked = path.join(folder, 'locked');
  fs.mkdirSync(locked, { mode: 0o000 });
  assert.equal(isFile(path.join(locked, 'qcoder-lsp')), false);
  assert.equal(isFile(folder), false);
  // For root, who may read everything: a file in the place of a folder.
  fs.writeFileSync(path.join(folder, 'file'), '');
  assert.equal(isFile(path.join(folder, 'file', 'qcoder-lsp')), false);
  fs.rmSync(folder, { recursive: true });
});
