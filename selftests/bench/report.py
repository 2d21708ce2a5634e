# SPDX-License-Identifier: GPL-2.0
"""Medians, the table, and how "user" compares with the best of the others."""
import json
import statistics


class Figure:
    """A line of the table: what is taken from a point, and whether more is better."""

    def __init__(self, key, title, unit, take, more=False, digits=0):
        self.key, self.title, self.unit, self.take = key, title, unit, take
        self.more, self.digits = more, digits


# Shown beside the others, and not what "user" has to reach: no relay at all, and what other designs would do.
ALONE = ("direct", "user", "copy", "uring", "sockmap", "local", "bypass", "nginx-half")


class Results:
    def __init__(self):
        self.values, self.errors = {}, {}

    def add(self, figure, relay, value):
        self.values.setdefault((figure.key, relay), []).append(value)

    def fail(self, figures, relay, why):
        for f in figures:
            self.errors.setdefault((f.key, relay), why)

    def median(self, figure, relay):
        values = self.values.get((figure.key, relay))
        return None if not values or (figure.key, relay) in self.errors else statistics.median(values)

    def cell(self, figure, relay):
        if (figure.key, relay) in self.errors:
            return "failed"
        value = self.median(figure, relay)
        return "-" if value is None else f"{value:.{figure.digits}f}"

    def best(self, figure, relays):
        """The best of those that "user" is to be compared with."""
        have = [(self.median(figure, r), r) for r in relays if r not in ALONE]
        have = [h for h in have if h[0] is not None]
        if not have:
            return None
        return (max if figure.more else min)(have)[1]

    def ratios(self, figure, other):
        """Of "user" to the other, round by round; above 1 is better."""
        pairs = zip(self.values[figure.key, "user"], self.values[figure.key, other])
        if figure.more:
            return [u / o if o else float("inf") for u, o in pairs]
        return [o / u if u else float("inf") if o else 1.0 for u, o in pairs]


def verdict(ratios):
    """Equal within the noise: the middle half of the rounds' ratios reaches 1, or lacks 1 %; of too few rounds, 5 %."""
    middle, slack = statistics.median(ratios), 0.05
    low, high = min(ratios), max(ratios)
    if len(ratios) >= 3:
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        slack = 0.01
    if low > 1 and middle > 1 + slack:
        return "better"
    return "equal" if (len(ratios) >= 3 and high >= 1) or middle >= 1 - slack else "BEHIND"


def compare(results, figure, relays):
    """(best of the others, ratio, verdict), or blanks."""
    other = results.best(figure, relays)
    if "user" not in relays or not other:
        return "", "", ""
    if results.median(figure, "user") is None:
        return other, "", "failed" if results.cell(figure, "user") == "failed" else ""
    ratios = results.ratios(figure, other)
    return other, f"{statistics.median(ratios):.2f}", verdict(ratios)


def rows_of(results, figures, relays):
    rows = [["", "", *relays, "best other", "user/best", ""]]
    for f in figures:
        cells = [results.cell(f, r) for r in relays]
        if any(c != "-" for c in cells):
            rows.append([f.title, f.unit, *cells, *compare(results, f, relays)])
    return rows


def lay_out(rows, left):
    """Columns side by side; left: the numbers of those that are not figures."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
                     for row in rows)


def lay_out_markdown(head, rows):
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def table(results, figures, relays):
    rows = rows_of(results, figures, relays)
    return lay_out(rows, {0, 1, len(rows[0]) - 3, len(rows[0]) - 1})


def markdown(results, figures, relays):
    """For Documentation/performance.md; the best other is known by its figure."""
    head, *rows = rows_of(results, figures, relays)
    lines = []
    for row in rows:
        lines.append([f"{row[0]}, {row[1]}", *row[2:-3], f"{row[-2]} ({row[-3]})" if row[-2] else "", row[-1].lower()])
    return lay_out_markdown(["", *head[2:-3], "user / best other", ""], lines)


def failures(results):
    """A sentence for each relay and reason, with the rows it concerns."""
    why = {}
    for (key, relay), error in results.errors.items():
        why.setdefault((relay, error), {})[key.split(".")[0]] = True
    return [f"{relay}: {error} ({', '.join(rows)})" for (relay, error), rows in why.items()]


def write_json(path, results, figures, relays, about):
    out = {"about": about, "figures": []}
    for f in figures:
        entry = {"key": f.key, "title": f.title, "unit": f.unit, "more_is_better": f.more, "relays": {}}
        for r in relays:
            values = results.values.get((f.key, r))
            if (f.key, r) in results.errors:
                entry["relays"][r] = {"failed": results.errors[f.key, r]}
            elif values:
                entry["relays"][r] = {"median": statistics.median(values), "rounds": values}
        if entry["relays"]:
            other, ratio, word = compare(results, f, relays)
            entry["best_other"], entry["user_to_best"], entry["verdict"] = other, ratio, word
            out["figures"].append(entry)
    with open(path, "w") as file:
        json.dump(out, file, indent=1)
        file.write("\n")
