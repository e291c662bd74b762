"""One table of the lines that gpu.sh or compare.sh wrote: milliseconds of each case, and ours over PyTorch's."""

import json
import statistics
import sys
from pathlib import Path


def table(title, head, cases, cell):
    print(f"{title}\n\n| case | " + " | ".join(head) + " |\n" + "|---" * (1 + len(head)) + "|")
    for case in cases:
        print(f"| {case} | " + " | ".join(cell(case, column) for column in range(len(head))) + " |")
    print()


def main():
    seconds, failed, cases = {}, set(), []
    for path in sorted(Path(sys.argv[1]).glob("*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line) if line.startswith("{") else {}
            if "case" not in row:
                continue
            name = row.get("peer", f"burn-love {path.stem.removeprefix('bench-')}")
            name = f"{name} {row['precision']}{' compiled' if row.get('compiled') else ''}"
            times = seconds.setdefault(name, {})
            if row["case"] not in cases:
                cases.append(row["case"])
            if "seconds" in row:
                times.setdefault(row["case"], []).append(row["seconds"])
            else:
                failed.add((name, row["case"]))
    median = lambda name, case: statistics.median(seconds[name][case]) if case in seconds[name] else None
    ours = sorted(name for name in seconds if name.startswith("burn-love"))
    peers = sorted(name for name in seconds if name not in ours)
    names = ours + peers

    def time(case, column):
        value = median(names[column], case)
        return f"{1e3 * value:.2f}" if value else "failed" if (names[column], case) in failed else ""

    def ratio(case, column):
        a, b = (median(name, case) for name in pairs[column])
        return f"{a / b:.2f}" if a and b else ""

    pairs = [(a, b) for a in ours for b in peers]
    table("Milliseconds, medians:", names, cases, time)
    table("Ratios, ours over PyTorch's:", [f"{a} / {b}" for a, b in pairs], cases, ratio)


main()
