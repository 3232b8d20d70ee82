"""Tables of what was measured, in Markdown, which reads well on a terminal too."""
from goals import GOALS


def table(heading, rows):
    widths = [max(len(str(row[at])) for row in [heading, *rows]) for at in range(len(heading))]
    def line(cells):
        padded = [str(cell).ljust(width) if at == 0 else str(cell).rjust(width)
                  for at, (cell, width) in enumerate(zip(cells, widths))]
        return "| " + " | ".join(padded) + " |"
    rule = "|" + "|".join("-" * (width + 2) if at == 0 else "-" * (width + 1) + ":"
                          for at, width in enumerate(widths)) + "|"
    return "\n".join([line(heading), rule, *map(line, rows)]) + "\n"


def number(value, digits=1):
    return "–" if value is None else f"{value:,.{digits}f}"


def rate(answered, asked):
    """What was answered in a second, and if that is not all that was asked for, what that was."""
    return number(answered, 0) + (f" of {number(asked, 0)}" if asked and answered < 0.95 * asked else "")


def goals(results):
    rows = []
    for goal in GOALS:
        value = goal.figure(results)
        sign = "≤" if goal.most else "≥"
        bounds = ["" if bound is None else f"{sign} {bound:g}" for bound in (goal.must, goal.target, goal.stretch)]
        shown = "not measured" if value is None else f"{value:.2f}{goal.unit}"
        rows.append([goal.name, shown, *bounds, "" if value is None else goal.verdict(value)])
    return table(["figure", "measured", "must", "target", "stretch", ""], rows)


def stage(results, name):
    """Every test of a stage: what it cost, how much, how long."""
    parts = []
    for test in results.tests(name):
        rows = []
        for subject in results.subjects(name, test):
            middle = lambda *path: results.median(name, test, subject, *path)
            costs = results.values(name, test, subject, "cpu_us")
            kind = "reads" if middle("reads", "p50_ms") is not None else "writes"
            rows.append([results.label(name, subject), number(middle("cpu_us")), f"{min(costs):.1f}–{max(costs):.1f}",
                         number(middle("user_us")), rate(middle("ops_s"), middle("rate")),
                         *(number(middle(kind, at), 2) for at in ("p50_ms", "p99_ms", "p999_ms"))])
        heading = [test, "CPU µs/op", "of rounds", "user µs/op", "op/s", "p50 ms", "p99", "p99.9"]
        parts.append(table(heading, rows))
    return "\n".join(parts)


def storage(results, name):
    rows = [[record["label"], number(record["memory_per_key"], 0), number(record["disk_per_key"], 0),
             f"{record['keys']:,}", number(record["fill_s"])]
            for record in results.storage(name).values()]
    return table(["after filling", "memory B/key", "disk B/key", "keys", "fill s"], rows) if rows else ""


def machine(results):
    record = results.machine()
    return "\n".join(f"- {name}: {value}" for name, value in record["facts"].items()) + "\n"


def whole(results):
    parts = ["Goals", "", goals(results)]
    for name in results.stages():
        parts += [name, "", stage(results, name), storage(results, name)]
    return "\n".join(parts)
