// What the server tells about itself, as Markdown.

type Facts = Record<string, unknown>;

/** The figures of `qcoder stats`; those that have no value yet are left out. */
export function statisticsText(figures: Record<string, number | null>): string {
  const rows = Object.entries(figures)
    .filter((row): row is [string, number] => row[1] !== null)
    .map(([name, value]) => `| ${name.replaceAll('_', ' ')} | ${rounded(value)} |`);
  if (rows.length === 0) {
    return '# qcoder: statistics\n\nNothing was counted yet.\n';
  }
  return [
    '# qcoder: statistics',
    '',
    'Of the last 30 days, kept on this machine only.',
    '',
    '| figure | value |',
    '|---|---|',
    ...rows,
    '',
  ].join('\n');
}

/** Why the last request was answered as it was. */
export function explanationText(facts: Facts | null): string {
  if (facts === null || Object.keys(facts).length === 0) {
    return '# qcoder: last suggestion\n\nNothing was asked for yet.\n';
  }
  return ['# qcoder: last suggestion', '', ...lines(facts, 0), ''].join('\n');
}

function lines(value: unknown, depth: number): string[] {
  const indent = '  '.repeat(depth);
  const entries = Array.isArray(value)
    ? value.map((item: unknown): [string, unknown] => ['', item])
    : Object.entries(value as Facts);
  return entries.flatMap(([name, item]) => {
    const label = name === '' ? '' : `**${name.replaceAll('_', ' ')}**`;
    if (item !== null && typeof item === 'object') {
      return [`${indent}- ${label}`.trimEnd(), ...lines(item, depth + 1)];
    }
    return [`${indent}- ${label}${label === '' ? '' : ': '}${plain(item)}`];
  });
}

function plain(value: unknown): string {
  if (typeof value === 'number') {
    return rounded(value);
  }
  return typeof value === 'string' ? `\`${value.replaceAll('`', "'")}\`` : String(value);
}

function rounded(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(3);
}
