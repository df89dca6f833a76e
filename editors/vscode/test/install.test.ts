import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';

import { bundledArchive, install, InstallError, run } from '../src/install';

function folder(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'qcoder-install-'));
}

function listening(): { lines: string[]; listen: (line: string) => void; signal: AbortSignal } {
  const lines: string[] = [];
  return { lines, listen: (line) => lines.push(line), signal: new AbortController().signal };
}

test('every line of both streams is heard', async () => {
  const { lines, ...rest } = listening();
  await run(process.execPath, ['-e', 'console.log("one\\n\\ntwo"); console.error("three")'], rest);
  assert.deepEqual(lines.sort(), ['one', 'three', 'two']);
});

test('a program that fails is told with what it said last', async () => {
  const args = ['-e', 'console.error("no room left"); process.exit(3)'];
  await assert.rejects(run(process.execPath, args, listening()), /ended with 3: no room left/);
});

test('a program that is not there is told', () =>
  assert.rejects(run('/nowhere/python', [], listening()), InstallError));

test('cancelling ends the program', async () => {
  const control = new AbortController();
  const running = run(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], {
    listen: () => undefined,
    signal: control.signal,
  });
  control.abort();
  await assert.rejects(running, /cancelled/);
});

test('an installation that fails leaves nothing behind', async () => {
  const home = folder();
  const archive = path.join(home, 'broken.tar.gz');
  fs.writeFileSync(archive, 'no archive');
  const environment = path.join(home, 'server');
  const options = { archive, folder: environment, python: undefined, ...listening() };
  await assert.rejects(install(options), InstallError);
  assert.equal(fs.existsSync(environment), false);
});

test('the archive is found in the folder of the extension', () => {
  const home = folder();
  assert.equal(bundledArchive(home), undefined);
  fs.mkdirSync(path.join(home, 'server'));
  fs.writeFileSync(path.join(home, 'server', 'qcoder-1.tar.gz'), '');
  assert.equal(bundledArchive(home), path.join(home, 'server', 'qcoder-1.tar.gz'));
});
