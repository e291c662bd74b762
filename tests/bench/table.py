"""One table of what gpu.sh or compare.sh wrote: seconds of each case, and ours over PyTorch's."""

import json
import sys
from pathlib import Path


def rows(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def main():
    folder = Path(sys.argv[1])
    columns, cases = {}, []
    for path in sorted(folder.glob("*.jsonl")):
        for row in rows(path):
            if "case" not in row:
                continue
            name = row.get("peer") or f"burn-love {path.stem.removeprefix('bench-')}"
            name = f"{name} {row['precision']}{' compiled' if row.get('compiled') else ''}"
            columns.setdefault(name, {})[row["case"]] = row
            if row["case"] not in cases:
                cases.append(row["case"])
    ours = [name for name in columns if name.startswith("burn-love")]
    peers = [name for name in columns if not name.startswith("burn-love")]
    print("| case | " + " | ".join(f"{name} (ms)" for name in ours + peers) + " |")
    print("|---" * (1 + len(ours) + len(peers)) + "|")
    for case in cases:
        cells = []
        for name in ours + peers:
            row = columns[name].get(case, {})
            if "seconds" in row:
                cells.append(f"{1e3 * row['seconds']:.2f}")
            else:
                cells.append("failed" if "error" in row else "")
        print(f"| {case} | " + " | ".join(cells) + " |")
    print()
    print("Ratios, ours over PyTorch's:")
    print()
    print("| case | " + " | ".join(f"{a} / {b}" for a in ours for b in peers) + " |")
    print("|---" * (1 + len(ours) * len(peers)) + "|")
    for case in cases:
        cells = []
        for a in ours:
            for b in peers:
                x, y = columns[a].get(case, {}).get("seconds"), columns[b].get(case, {}).get("seconds")
                cells.append(f"{x / y:.2f}" if x and y else "")
        print(f"| {case} | " + " | ".join(cells) + " |")


main()
