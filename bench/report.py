"""What a run has found: rows of figures with their goals, as text, JSON, Markdown and a chart."""
import dataclasses, html, math, statistics, textwrap

# The unit of each figure, and whether more of it is better.
KINDS = {
    "rate": ("rate", lambda value: f"{value:,.0f}/s", True),
    "cpu": ("CPU", lambda value: time(value), False),
    "p99": ("p99", lambda value: time(value), False),
    "time": ("time", lambda value: time(value), False),
    "size": ("bytes", lambda value: f"{value:,.0f}", False),
    "ssim": ("SSIM", lambda value: f"{value:.4f}", True),
    "memory": ("memory", lambda value: f"{value / 2**20:.1f} MiB", False),
}


def time(seconds):
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e6:.1f} µs"


@dataclasses.dataclass
class Figure:
    """One figure of a row. `ratio` is ours divided by the peer's, and `goal` what it should be: at least that where more
    is better, at most that otherwise."""
    kind: str
    own: float
    other: float | None = None
    ratio: float | None = None
    goal: float | None = None

    @property
    def name(self):
        return KINDS[self.kind][0]

    @property
    def attained(self):
        """How much of the goal was attained: 1 and more reaches it. `None`: there is no goal."""
        if self.goal is None:
            return None
        value = self.own if self.ratio is None else self.ratio
        return value / self.goal if KINDS[self.kind][2] else self.goal / max(value, 1e-9)

    def text(self, value):
        return "" if value is None else KINDS[self.kind][1](value)

    def goal_text(self):
        if self.goal is None:
            return ""
        goal = f"{self.goal:g}" if self.ratio is not None else self.text(self.goal)
        return ("≥ " if KINDS[self.kind][2] else "≤ ") + goal


@dataclasses.dataclass
class Row:
    """What was measured, beside which peer, and the figures."""
    title: str
    peer: str
    figures: list
    notes: list = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, title, peer, rounds, goals, notes=()):
        """A row from the figures of several rounds: pairs of dictionaries, ours and the peer's. The figures are medians,
        and a ratio is the median of the ratios of the rounds. A peer without figures makes a row without ratios."""
        figures = []
        for kind in rounds[0][0]:
            if kind not in KINDS:
                continue
            own = statistics.median(mine[kind] for mine, _ in rounds)
            figure = Figure(kind, own, goal=goals.get(kind))
            if rounds[0][1] and kind in rounds[0][1]:
                figure.other = statistics.median(theirs[kind] for _, theirs in rounds)
                figure.ratio = statistics.median(mine[kind] / max(theirs[kind], 1e-9) for mine, theirs in rounds)
            figures.append(figure)
        return cls(title, peer, figures, list(notes))

    def lines(self):
        """The row for people who watch the run."""
        yield self.title + (f", beside {self.peer}" if self.peer else "")
        for figure in self.figures:
            line = f"  {figure.name:7} {figure.text(figure.own):>12}"
            if figure.other is not None:
                line += f" beside {figure.text(figure.other):>12}: {figure.ratio:.2f}"
            if figure.goal is not None:
                line += f", goal {figure.goal_text()}" + ("" if figure.attained >= 1 else "  MISSED")
            yield line
        for note in self.notes:
            yield f"  {note}"


def as_json(machine, rows):
    return {"machine": machine, "rows": [dataclasses.asdict(row) for row in rows]}


def as_markdown(machine, rows):
    """The table of docs/benchmarks.md."""
    found = [textwrap.fill(f"- {name}: {value}", 100, subsequent_indent="  ") for name, value in machine.items()]
    lines = ["", "![How much of each goal was attained](benchmarks.svg)", "", *found, "", "| what | beside | figure | pixtoll | peer | ratio | goal |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        for number, figure in enumerate(row.figures):
            title, peer = (row.title, row.peer) if number == 0 else ("", "")
            ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
            goal = figure.goal_text()
            if figure.goal is not None:
                goal += " reached" if figure.attained >= 1 else " **missed**"
            lines.append(f"| {title} | {peer} | {figure.name} | {figure.text(figure.own)} | {figure.text(figure.other)} "
                         f"| {ratio} | {goal} |")
    return "\n".join(lines) + "\n"


# The chart: one bar for each figure that has a goal, on a logarithmic axis.
WIDTH, LABELS, LINE, TOP = 960, 430, 22, 64
LOWEST, HIGHEST = 1 / 8, 8
REACHED, MISSED, TEXT, FAINT = "#2a78b8", "#d98324", "#24292f", "#d0d7de"


def as_svg(machine, rows):
    """A chart that shows how much of each goal was attained."""
    bars = [(f"{row.title}, {figure.name}", figure) for row in rows for figure in row.figures if figure.attained]
    height = TOP + LINE * len(bars) + 40
    place = lambda value: LABELS + (WIDTH - LABELS - 70) * (
        math.log(min(max(value, LOWEST), HIGHEST) / LOWEST) / math.log(HIGHEST / LOWEST))
    text = lambda x, y, words, more="": f'<text x="{x:.0f}" y="{y:.0f}" {more}>{html.escape(words)}</text>'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{TEXT}">',
        "<title>pixtoll beside its peers: how much of each goal was attained</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        text(16, 24, "pixtoll beside its peers", 'font-size="16" font-weight="600"'),
        text(16, 44, f"How much of each goal was attained: 1 and more reaches it. {machine.get('Date', '')}"),
    ]
    for tick in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8):
        x = place(tick)
        parts.append(f'<path d="M{x:.1f} {TOP - 4}V{height - 26}" stroke="{TEXT if tick == 1 else FAINT}"/>')
        parts.append(text(x, height - 10, f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}", 'text-anchor="middle"'))
    for number, (label, figure) in enumerate(bars):
        y, share = TOP + LINE * number, figure.attained
        start, end = sorted((place(1), place(share)))
        parts.append(text(LABELS - 64, y + 14, label, 'text-anchor="end"'))
        parts.append(f'<rect x="{start:.1f}" y="{y + 3}" width="{max(end - start, 1.5):.1f}" height="{LINE - 8}" rx="2" '
                     f'fill="{REACHED if share >= 1 else MISSED}"/>')
        parts.append(text(end + 5 if share >= 1 else start - 5, y + 14, f"{share:.2f}",
                          "" if share >= 1 else 'text-anchor="end"'))
    return "\n".join(parts) + "\n</svg>\n"
