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

test('an explanation is a list of lists', () => {
  const text = explanationText({
    answer: 'shown',
    tokens_reused: 40,
    sources: [{ path: 'a`b.py', reason: 'imported' }],
  });
  assert.match(text, /- \*\*answer\*\*: `shown`/);
  assert.match(text, /- \*\*tokens reused\*\*: 40/);
  assert.match(text, / {4}- \*\*path\*\*: `a'b\.py`/);
});

test('an explanation of nothing says so', () => {
  assert.match(explanationText(null), /Nothing was asked for yet/);
  assert.match(explanationText({}), /Nothing was asked for yet/);
});
