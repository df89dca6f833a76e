// The folder that the tests work in: a small shop, in a checkout of its own.

import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';

export const INVENTORY = `"""Stock of a small shop."""

from dataclasses import dataclass, field


@dataclass
class Shelf:
    """Items of one kind and how many there are."""

    name: str
    items: dict[str, int] = field(default_factory=dict)

    def add(self, item: str, amount: int) -> None:
        """Put some more of an item on the shelf."""
        self.items[item] = self.items.get(item, 0) + amount

    def remove(self, item: str, amount: int) -> None:
        """Take some of an item from the shelf."""
        self.items[item] = self.items.get(item, 0) - amount

    def move(self, item: str, amount: int, target: "Shelf") -> None:
        """Carry some of an item to another shelf."""
        self.remove(item, amount)
        target.add(item, amount)

    def fetch(self, item: str, amount: int, source: "Shelf") -> None:
        """Carry some of an item from another shelf to this one."""
        source.remove(item, amount)
`;

export const REPORT = `"""Reads and writes the list of items."""

import json


def load(path, encoding="utf-8"):
    handle = open(path, encoding=encoding)
    return json.load(handle)


def save(path, items):
    with open(path, "w", encoding="utf-8") as handle:
        json.dump(items, handle)
`;

const PRICES = `"""What a customer pays."""


def gross(price, rate):
    return price + price * rate / 100


def discounted(price, rate):
    return price - price * rate / 100
`;

/** Typed at the end of `inventory.py`: what comes next is plain. */
export const TYPED = '        for item in self';

const LEAK = `

def append(path, item):
    handle = open(path, "a", encoding="utf-8")
    handle.write(item)
`;

/** Changed files beside `journal.py`: enough that reviewing them takes a moment. */
export const CHANGED = 40;

/** Makes the folder, with a change that is not committed in `journal.py`. */
export function makeWorkspace(folder: string): string {
  fs.mkdirSync(folder, { recursive: true });
  const write = (name: string, text: string) => fs.writeFileSync(path.join(folder, name), text);
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@example.org', ...args], {
      cwd: folder,
    });
  write('inventory.py', INVENTORY);
  write('report.py', REPORT);
  write('journal.py', '"""What happened when."""\n');
  const archived = Array.from({ length: CHANGED }, (_, number) => `archive/stock_${number}.py`);
  fs.mkdirSync(path.join(folder, 'archive'));
  archived.forEach((name) => write(name, PRICES));
  git('init', '--quiet');
  git('add', '-A');
  git('commit', '--quiet', '-m', 'Begin');
  write('journal.py', `"""What happened when."""\n${LEAK}`);
  archived.forEach((name) => write(name, PRICES.replaceAll('rate', 'share')));
  return folder;
}
