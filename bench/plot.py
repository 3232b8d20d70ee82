"""Plots as SVG files, small enough to be read by people too."""
from html import escape

WIDTH, LEFT, RIGHT = 760, 210, 70
BAR, GAP, GROUP_GAP, TOP = 14, 4, 24, 34
COLOURS = ["#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#888888"]


def page(height, title, parts):
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'font-family="sans-serif" font-size="11">')
    background = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    heading = f'<text x="10" y="18" font-size="13" font-weight="bold">{escape(title)}</text>'
    return "\n".join([head, background, heading, *parts, "</svg>", ""])


def text(x, y, what, anchor="start", colour="#222"):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{escape(what)}</text>'


def bars(title, groups):
    """`groups`: (heading, [(label, value)]), one scale for each group."""
    y, parts = TOP, []
    for heading, rows in groups:
        parts.append(text(10, y + 10, heading))
        most = max(value for _, value in rows)
        y += 18
        for label, value in rows:
            width = (WIDTH - LEFT - RIGHT) * value / most
            colour = COLOURS[0] if label.startswith("Moim") else "#bbbbbb"
            parts.append(text(LEFT - 6, y + 11, label, "end"))
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
            parts.append(text(LEFT + width + 5, y + 11, f"{value:.1f}"))
            y += BAR + GAP
        y += GROUP_GAP - GAP
    return page(y, title, parts)


def lines(title, points, series, unit):
    """`points`: what is below the axis, at equal distances; `series`: (label, values, None where there is none)."""
    height, bottom = 300, 250
    values = [value for _, row in series for value in row if value is not None]
    most = max(values) * 1.1
    at_x = lambda index: LEFT + (WIDTH - LEFT - RIGHT) * index / max(1, len(points) - 1)
    at_y = lambda value: bottom - (bottom - TOP) * value / most
    parts = [f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}" stroke="#222"/>']
    for part in range(5):
        value = most * part / 4
        parts.append(f'<line x1="{LEFT}" y1="{at_y(value):.1f}" x2="{WIDTH - RIGHT}" y2="{at_y(value):.1f}" '
                     f'stroke="#dddddd"/>')
        parts.append(text(LEFT - 6, at_y(value) + 4, f"{value:.0f} {unit}", "end"))
    parts += [text(at_x(index), bottom + 16, point, "middle") for index, point in enumerate(points)]
    for number, (label, row) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        seen = [(at_x(index), at_y(value)) for index, value in enumerate(row) if value is not None]
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in seen)
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in seen]
        parts.append(text(10, TOP + 14 + 16 * number, label, colour=colour))
    return page(height, title, parts)
