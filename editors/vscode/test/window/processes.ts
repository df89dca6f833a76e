import { execFileSync } from 'node:child_process';

/** Language servers that run from a path, as [pid, command line]. */
export function processes(server: string): [number, string][] {
  const listed = execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' });
  return listed
    .split('\n')
    .map((line) => /^\s*(\d+) (.*)$/.exec(line))
    .filter((match) => match !== null)
    .map((match): [number, string] => [Number(match[1]), match[2] ?? ''])
    .filter(([, line]) => line.includes(`${server} --stdio`));
}
