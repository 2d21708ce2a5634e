# SPDX-License-Identifier: GPL-2.0
"""The tables of "make bench-kmod", and what is wanted of the module."""
import statistics

from report import lay_out, lay_out_markdown

NOISE = 0.01        # a run repeats to within this


class Counted:
    """What one kernel's guest has said."""

    def __init__(self, kernel, release, points, rows, relays):
        self.kernel, self.release, self.rows, self.relays = kernel, release, rows, relays
        self.points, self.errors = {}, {}
        self.again = [f"{p['relay']}, {p['row']}: {p['again']}" for p in points if "again" in p]
        for p in points:
            keys = [(p["row"], p["relay"])] if "row" in p else [(r.key, p["relay"]) for r in rows]
            for key in keys:
                if "error" in p:
                    self.errors.setdefault(key, p["error"])
                else:
                    self.points.setdefault(key, []).append(p)

    def elapsed(self, row, relay):
        """Of the guest's clock, for each of what was done: the median of the slices."""
        points = self.points.get((row.key, relay))
        if not points or (row.key, relay) in self.errors:
            return None
        return statistics.median(e for p in points for e in p["each"] if e)

    def busy(self, row, relay):
        return min(1, statistics.mean(p.get("busy", 1) for p in self.points[row.key, relay]))

    def each(self, row, relay):
        """Instructions: without what the processor was idle for."""
        ns = self.elapsed(row, relay)
        return None if ns is None else ns * self.busy(row, relay)

    def own(self, row, relay):
        """Instructions of the relay alone."""
        each, direct = self.each(row, relay), self.each(row, "direct")
        return None if each is None or direct is None or relay == "direct" else each - direct

    def own_ratio(self, row, relay, other="splice"):
        """None, too, where the other costs less than no relay: it then held up the sender, which merged its writes."""
        own, others = self.own(row, relay), self.own(row, other)
        return own / others if own is not None and others is not None and others > 0 else None

    def throughput_ratio(self, row, relay, other="splice"):
        one, others = self.elapsed(row, relay), self.elapsed(row, other)
        return others / one if one and others else None

    def gain(self, row, counter):
        return sum(p.get("stats", {}).get(counter, 0) for p in self.points.get((row.key, "kmod"), []))

    def inline_share(self, row):
        inline, worker = self.gain(row, "inline"), self.gain(row, "worker")
        return inline / (inline + worker) if inline + worker else None


def text(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def matrix(c, title, cell, unit=None):
    rows = [[title, *c.relays]]
    for row in c.rows:
        name = f"{row.title}, a {row.unit}" if unit else row.title
        rows.append([name, *("failed" if (row.key, r) in c.errors else cell(row, r) for r in c.relays)])
    return rows


def counters(c):
    names = ["started", "inline", "worker", "missed", "blocked", "zerocopy", "copied"]
    rows = [["What kmod's counters say of each row", *names, "inline share"]]
    for row in c.rows:
        if (row.key, "kmod") in c.points:
            share = c.inline_share(row)
            rows.append([row.title, *(str(c.gain(row, n)) for n in names), "-" if share is None else f"{100 * share:.1f} %"])
    return rows


def idle(c):
    """Of rows where the processor had nothing to do now and then: what waited there is no instruction."""
    found = [["The processor was idle", "share"]]
    for row in c.rows:
        for relay in c.relays:
            if (row.key, relay) in c.points and c.busy(row, relay) < 1 - NOISE:
                found.append([f"{row.title}, {relay}", f"{100 * (1 - c.busy(row, relay)):.1f} %"])
    return found


def tables(c):
    found = [matrix(c, "Instructions", lambda row, r: text(c.each(row, r), row.digits), unit=True),
             matrix(c, "The relay's own (over direct)", lambda row, r: text(c.own(row, r), row.digits), unit=True),
             matrix(c, "The relay's own, of splice's", lambda row, r: text(c.own_ratio(row, r))),
             matrix(c, "Throughput, of splice's", lambda row, r: text(c.throughput_ratio(row, r))),
             counters(c), idle(c)]
    return [t for t in found if len(t) > 1]


def verdict(what, figure, met, bound):
    if figure is None:
        return [what, bound, "-", "no figure"]
    return [what, bound, text(figure), "met" if met(figure) else "NOT MET"]


def behind(c):
    """What has fewer instructions than kmod in some row, and by how much."""
    found = []
    for row in c.rows:
        mine = c.elapsed(row, "kmod")
        for r in c.relays:
            other = c.elapsed(row, r)
            if mine and other and r not in ("direct", "kmod") and mine > other * (1 + NOISE):
                found.append(f"{row.title}: {r} ({other / mine:.2f})")
    return found


def targets(c):
    rows = [[f"Targets, kernel {c.kernel}", "wanted", "is", ""]]
    for row in c.rows:
        if row.bound:
            rows.append(verdict(f"{row.title}: kmod's own, of splice's", c.own_ratio(row, "kmod"),
                                lambda x, most=row.bound: x <= most, f"<= {row.bound:.2f}"))
    for row in [r for r in c.rows if r.kind == "bulk"]:
        rows.append(verdict(f"{row.title}: throughput, of splice's", c.throughput_ratio(row, "kmod"),
                            lambda x: x >= 1 - NOISE, ">= 1"))
    for row in [r for r in c.rows if r.kind == "conn"]:
        rows.append(verdict(f"{row.title}: kmod's own, of copy's", c.own_ratio(row, "kmod", "copy"),
                            lambda x: x <= 1 + NOISE, "<= 1"))
    for row in [r for r in c.rows if r.kind == "rr"]:
        rows.append(verdict(f"{row.title}: share of runs inline", c.inline_share(row), lambda x: x > 0.95, "> 0.95"))
    late = behind(c)
    rows.append(["no row behind another relay", "none", str(len(late)), "NOT MET" if late else "met"])
    return rows, late


def failures(c):
    why = {}
    for (row, relay), error in c.errors.items():
        why.setdefault((relay, error), []).append(row)
    return [f"{relay}: {error} ({', '.join(rows)})" for (relay, error), rows in why.items()]


def show(c, markdown):
    rows, late = targets(c)
    for t in [*tables(c), rows]:
        print("\n" + (lay_out_markdown(t[0], t[1:]) if markdown else lay_out(t, {0, len(t[0]) - 1} if t is rows else {0})))
    for line in late:
        print("behind:", line)
    for line in c.again:
        print("second attempt:", line)
    for line in failures(c):
        print("failed:", line)


def as_json(c):
    return {"kernel": c.kernel, "release": c.release,
            "rows": [{"key": row.key, "title": row.title, "unit": row.unit, "relays": {
                r: {"failed": c.errors[row.key, r]} if (row.key, r) in c.errors else
                {"instructions": c.each(row, r), "own": c.own(row, r), "of_splice": c.own_ratio(row, r),
                 "throughput_of_splice": c.throughput_ratio(row, r), "points": c.points.get((row.key, r))}
                for r in c.relays}} for row in c.rows],
            "targets": [dict(zip(("what", "wanted", "is", "verdict"), t)) for t in targets(c)[0][1:]]}
