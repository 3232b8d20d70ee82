"""docs/performance.md: the part between the markers, and the plots beside it."""
import os, re

import plot, report
from goals import STAGE
from processes import Trouble

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
# Sweeps whose stages are points of one line, and those whose tests are.
BY_STAGE = {"keys-": "keys", "nodes-": "nodes", "size-": "bytes of a value"}
BY_TEST = {"connections": r"(\w+) C(\d+)", "pipeline": r"(\w+) P(\d+)"}


def write(results, command, directory):
    path = os.path.join(directory, "performance.md")
    with open(path) as page:
        before, begin, rest = page.read().partition(BEGIN)
        _, end, after = rest.partition(END)
    if not begin or not end:
        raise Trouble(f"{path}: the markers {BEGIN} and {END} are missing")
    plots = draw(results)
    for name, svg in plots.items():
        with open(os.path.join(directory, name), "w") as out:
            out.write(svg)
    with open(path, "w") as out:
        out.write(before + BEGIN + "\n\n" + generated(results, command, plots) + "\n" + END + after)
    return [path, *(os.path.join(directory, name) for name in plots)]


def generated(results, command, plots):
    parts = [f"Printed by `{command}` on", "", report.machine(results)]
    if STAGE in results.stages():
        parts += ["### Goals", "", report.goals(results)]
    for name in plots:
        parts += [f"![{name.removesuffix('.svg').replace('-', ' ')}]({name})", ""]
    for name in results.stages():
        parts += [f"### {name.replace('-', ' ').capitalize()}", "", report.stage(results, name),
                  report.storage(results, name)]
    return "\n".join(parts)


def draw(results):
    plots = {}
    if STAGE in results.stages():
        plots["performance-cpu.svg"] = plot.bars("Server CPU per operation, all processes, µs", [
            (test, [(results.label(STAGE, subject), results.median(STAGE, test, subject, "cpu_us"))
                    for subject in results.subjects(STAGE, test)])
            for test in results.tests(STAGE) if "%" not in test])
    for prefix, what in BY_STAGE.items():
        stages = sorted((int(name.removeprefix(prefix)), name) for name in results.stages() if name.startswith(prefix))
        if len(stages) > 1:
            series = [(f"{test.split()[0]} {subject}",
                       [results.median(name, test, subject, "cpu_us") for _, name in stages])
                      for test in ("GET P1", "SET P1") for subject in results.subjects(stages[0][1], test)]
            plots[f"performance-{prefix}cpu.svg"] = plot.lines(
                f"Server CPU per operation, by {what}", [f"{at:,}" for at, _ in stages], series, "µs")
    for name, pattern in BY_TEST.items():
        if name in results.stages():
            plots[f"performance-{name}-cpu.svg"] = by_test(results, name, pattern)
    return plots


def by_test(results, name, pattern):
    found = [re.fullmatch(pattern, test) for test in results.tests(name)]
    points = sorted({int(test[2]) for test in found})
    tests = {(test[1], int(test[2])): test[0] for test in found}
    series = [(f"{kind} {subject}", [results.median(name, tests.get((kind, at)), subject, "cpu_us") for at in points])
              for kind in dict.fromkeys(test[1] for test in found)
              for subject in results.subjects(name, found[0][0])]
    return plot.lines(f"Server CPU per operation, by {name}", [str(at) for at in points], series, "µs")
