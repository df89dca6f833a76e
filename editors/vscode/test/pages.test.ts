import assert from 'node:assert/strict';
import { test } from 'node:test';

import { explanationText, statisticsText } from '../src/pages';

test('statistics leave out what has no value', () => {
  const text = statisticsText({ shown: 12, first_pass_rate: 0.33333, p95_ms: null });
  assert.match(text, /\| shown \| 12 \|/);
  assert.match(text, /\| first pass rate \| 0\.333 \|/);
  assert.doesNotMatch(text, /p95/);
});

test('without figures, that is said', () => {
  assert.match(statisticsText({ shown: null }), /Nothing was counted yet/);
});

const FACTS = {
  status: { kind: 'Normal', message: 'ready', reason: '' },
  uri: 'file:///home/a%20b/shelf.py',
  line: 28,
  column: 4,
  message: 'a suggestion was made',
  confidence: 0.73712,
  filters: ['suffix', 'indent'],
  sources: { model: 1, ngram: 4 },
  segments: [{ path: 'a`|b.py', start_line: 3, end_line: 9, tokens: 40, reason: 'imported' }],
  timings_ms: { prefill: 12.3456 },
};

test('an explanation says where, why and how', () => {
  const text = explanationText(FACTS);
  assert.match(text, /At `shelf\.py:29:5`: \*\*a suggestion was made\*\*\. The server is ready\./);
  assert.match(text, /\| confidence \| 0\.737 \|/);
  assert.match(text, /\| filters \| `suffix`, `indent` \|/);
  assert.match(text, /\| sources \| model 1, ngram 4 \|/);
  assert.match(text, /\| `a'\\\|b\.py` \| 3-9 \| 40 \| imported \|/);
  assert.match(text, /\| prefill \| 12\.346 \|/);
});

test('tables without rows are left out', () => {
  assert.doesNotMatch(explanationText({ ...FACTS, segments: [], timings_ms: {} }), /## (Context|Mill)/);
});

test('an explanation of nothing says so', () => {
  assert.match(explanationText(null), /Nothing was asked for yet/);
  assert.match(explanationText({}), /Nothing was asked for yet/);
});
