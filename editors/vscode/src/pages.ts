// What the server tells about itself, as Markdown.

type Facts = Record<string, unknown>;

/** The figures of `qcoder stats`; those that have no value yet are left out. */
export function statisticsText(figures: Record<string, number | null>): string {
  const rows = Object.entries(figures)
    .filter((row): row is [string, number] => row[1] !== null)
    .map(([name, value]) => `| ${spaced(name)} | ${rounded(value)} |`);
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

/** Why the last request was answered as it was; facts that this page does not know are listed, too. */
export function explanationText(facts: Facts | null): string {
  if (facts === null || facts['uri'] === undefined) {
    return '# qcoder: last suggestion\n\nNothing was asked for yet.\n';
  }
  const { status, uri, line, column, message, segments, timings_ms, ...others } = facts;
  const place = `${decodeURIComponent(String(uri).replace(/^.*\//, ''))}:${Number(line) + 1}:${Number(column) + 1}`;
  const state = (status ?? {}) as Facts;
  return [
    '# qcoder: last suggestion',
    '',
    `At \`${place}\`: **${String(message)}**. The server is ${String(state['message'] ?? state['kind'])}.`,
    ...table('How', ['', ''], Object.entries(others).map(([name, value]) => [spaced(name), shown(value)])),
    ...table(
      'Context',
      ['file', 'lines', 'tokens', 'why'],
      rows(segments).map((row) => [
        shown(row['path']),
        `${String(row['start_line'])}-${String(row['end_line'])}`,
        shown(row['tokens']),
        String(row['reason']),
      ]),
    ),
    ...table(
      'Milliseconds',
      ['', ''],
      Object.entries((timings_ms ?? {}) as Facts).map(([name, value]) => [spaced(name), shown(value)]),
    ),
    '',
  ].join('\n');
}

/** A heading and a table; nothing where there are no rows. */
function table(title: string, heads: readonly string[], cells: readonly string[][]): string[] {
  if (cells.length === 0) {
    return [];
  }
  const row = (values: readonly string[]) => `| ${values.map((v) => v.replaceAll('|', '\\|')).join(' | ')} |`;
  return ['', `## ${title}`, '', row(heads), row(heads.map(() => '---')), ...cells.map(row)];
}

function rows(value: unknown): Facts[] {
  return Array.isArray(value) ? (value as Facts[]) : [];
}

function spaced(name: string): string {
  return name.replaceAll('_', ' ');
}

/** A value in one cell; a text of the workspace cannot become markup. */
function shown(value: unknown): string {
  if (typeof value === 'number') {
    return rounded(value);
  }
  if (typeof value === 'string') {
    return value === '' ? '' : `\`${value.replaceAll('`', "'")}\``;
  }
  if (Array.isArray(value)) {
    return value.map(shown).join(', ');
  }
  if (value !== null && typeof value === 'object') {
    return Object.entries(value)
      .map(([name, inner]) => `${spaced(name)} ${shown(inner)}`)
      .join(', ');
  }
  return String(value);
}

function rounded(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(3);
}
