"""Draw docs/images/flow.svg: what happens between a folder, a request and a replica."""

from pathlib import Path

TARGET = Path(__file__).parent.parent / "docs" / "images" / "flow.svg"
WIDTH, HEIGHT = 860, 330

BOXES = {
    "folder": (20, 30, 150, 60, "your folder", "serai.yaml, predictor.py"),
    "cli": (20, 150, 150, 60, "serai (CLI)", "checks, locks, uploads"),
    "scheduler": (260, 150, 170, 60, "scheduler", "decides: plan, routes"),
    "store": (260, 250, 170, 60, "store", "SQLite: what is wanted"),
    "agent": (520, 150, 150, 60, "agent", "runs, steers, reports"),
    "gateway": (520, 30, 150, 60, "gateway", "HAProxy"),
    "replicas": (700, 90, 140, 70, "replicas", "runtime + predictor"),
    "client": (260, 30, 170, 60, "clients", "HTTP requests"),
}
ARROWS = (
    ("folder", "cli", "", "down"),
    ("cli", "scheduler", "deploy", "right"),
    ("scheduler", "store", "", "down"),
    ("scheduler", "agent", "orders", "right"),
    ("agent", "gateway", "", "up"),
    ("client", "gateway", "requests", "right"),
    ("gateway", "replicas", "", "right"),
    ("agent", "replicas", "", "right"),
)


def _box(x: int, y: int, width: int, height: int, title: str, text: str) -> str:
    middle = x + width / 2
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" class="box"/>'
        f'<text x="{middle}" y="{y + height / 2 - 4}" class="title">{title}</text>'
        f'<text x="{middle}" y="{y + height / 2 + 15}" class="text">{text}</text>'
    )


def _arrow(start: str, end: str, label: str, direction: str) -> str:
    x1, y1, w1, h1, *_ = BOXES[start]
    x2, y2, w2, h2, *_ = BOXES[end]
    points = {
        "right": (x1 + w1, y1 + h1 / 2, x2 - 4, y2 + h2 / 2),
        "down": (x1 + w1 / 2, y1 + h1, x2 + w2 / 2, y2 - 4),
        "up": (x1 + w1 / 2, y1, x2 + w2 / 2, y2 + h2 + 4),
    }[direction]
    a, b, c, d = points
    text = f'<text x="{(a + c) / 2}" y="{(b + d) / 2 - 6}" class="text">{label}</text>'
    return f'<path d="M{a} {b} L{c} {d}" class="arrow"/>' + (text if label else "")


def draw() -> str:
    """Return the picture."""
    style = (
        "text{font-family:sans-serif;text-anchor:middle;fill:#1b2733}"
        ".title{font-size:15px;font-weight:600}.text{font-size:11.5px;fill:#4a5a6a}"
        ".box{fill:#f4f7fa;stroke:#4a6a8a;stroke-width:1.4}"
        ".arrow{stroke:#4a6a8a;stroke-width:1.6;fill:none;marker-end:url(#tip)}"
    )
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#4a6a8a"/></marker></defs>'
    )
    parts = [_box(*box) for box in BOXES.values()] + [_arrow(*arrow) for arrow in ARROWS]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}"><style>{style}</style>{tip}'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(draw())
