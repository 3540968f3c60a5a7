"""Draws the figure of docs/noise.md from the formulas that it shows: `python docs/figures.py`.

The bars are the probabilities of noisy counts with and without one person, the lines the best guess about
that person after so many answers. Nothing is measured or random: the same file comes out every time.
"""

import math
from pathlib import Path

FIGURE = Path(__file__).with_name("noise.svg")
EPSILON = 0.25
WITHOUT, WITH = 104, 105
WIDTH, HEIGHT = 900, 340
INK, PALE, GRID = "#333", "#777", "#e3e5e8"
BLUE, GREEN, RED = "#3274d9", "#56a64b", "#c4462d"


def probability(z: int, epsilon: float) -> float:
    """P(noise = z) at sensitivity 1."""
    ratio = math.exp(-epsilon)
    return (1 - ratio) / (1 + ratio) * ratio ** abs(z)


def allowed(epsilon: float) -> float:
    """The best guess that answers of this price in all can allow, whatever their mechanism."""
    return math.exp(epsilon) / (1 + math.exp(epsilon))


def reached(epsilon: float, answers: int) -> float:
    """The best guess after so many noisy counts of subjects, each of price epsilon, before any rounding.

    One count speaks for the likelier case with odds e^epsilon, whatever its value, so that the best guess
    follows the majority; a draw is tossed for.
    """
    right = allowed(epsilon)
    total = 0.0
    for agree in range(answers + 1):
        share = math.comb(answers, agree) * right**agree * (1 - right) ** (answers - agree)
        total += share * (1 if 2 * agree > answers else 0.5 if 2 * agree == answers else 0)
    return total


def text(x: float, y: float, words: str, size: int = 13, anchor: str = "start", fill: str = INK) -> str:
    """A line of text."""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{words}</text>'


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1) -> str:
    """A straight line."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{stroke}" stroke-width="{width:g}"/>'


def bars() -> list[str]:
    """The left half: which noisy counts are told, with and without the person."""
    left, bottom, step, high = 40, 280, 12, 190 / probability(0, EPSILON)
    parts = [
        text(20, 26, "One noisy count, with and without one person", 15),
        text(20, 46, f"exact {WITHOUT} or {WITH}, epsilon {EPSILON}, scale {1 / EPSILON:g}", 12, fill=PALE),
        line(left - 8, bottom, left + 32 * step + 6, bottom, INK),
    ]
    for place, value in enumerate(range(WITHOUT - 15, WITHOUT + 17)):
        for shift, exact, fill in ((0, WITHOUT, BLUE), (5, WITH, GREEN)):
            tall = high * probability(value - exact, EPSILON)
            box = f'x="{left + place * step + shift}" y="{bottom - tall:.1f}" width="5" height="{tall:.1f}"'
            parts.append(f'<rect {box} fill="{fill}"/>')
        if value % 5 == 0:
            parts.append(text(left + place * step + 5, bottom + 18, str(value), 12, "middle", PALE))
    at = left + (100 - (WITHOUT - 15)) * step - 1
    parts += [
        line(at, bottom - 150, at, bottom + 4, RED, 1.5),
        text(at - 4, bottom - 140, "below 100", 12, "end", RED),
        text(at - 4, bottom - 124, "is all that is told", 12, "end", RED),
        text(left + 22 * step, 84, "without the person", 12, fill=BLUE),
        text(left + 22 * step, 102, "with the person", 12, fill=GREEN),
        text(left, HEIGHT - 14, "Every value is at most e^0.25 = 1.28 times as probable in one case.", 12),
    ]
    return parts


def lines() -> list[str]:
    """The right half: the best guess about the person after so many answers."""
    left, right, top, bottom = 520, 870, 70, 280

    def place(answers: float, share: float) -> tuple[float, float]:
        return left + (right - left) * answers / 16, bottom - (bottom - top) * (share - 0.5) / 0.5

    parts = [
        text(490, 26, "The best guess about one person", 15),
        text(490, 46, "after so many counts of lists that all hold the person", 12, fill=PALE),
    ]
    for percent in range(50, 101, 10):
        _, y = place(0, percent / 100)
        parts += [line(left, y, right, y, GRID), text(left - 6, y + 4, f"{percent} %", 12, "end", PALE)]
    for answers in (0, 4, 8, 12, 16):
        x, _ = place(answers, 0.5)
        parts.append(text(x, bottom + 18, str(answers), 12, "middle", PALE))
    curves = (
        (RED, [(0, 0.5), *((n, 1.0) for n in range(1, 17))]),
        (PALE, [(n / 4, allowed(EPSILON * n / 4)) for n in range(65)]),
        (BLUE, [(n, reached(EPSILON, n)) for n in range(17)]),
    )
    for stroke, points in curves:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{places}" fill="none" stroke="{stroke}" stroke-width="2"/>')
    month, _ = place(4, 0.5)
    parts += [
        line(month, top, month, bottom, GRID, 1.5),
        text(month + 5, bottom - 8, "a month's budget", 12, fill=PALE),
        text(right, bottom - 8, "a year's", 12, "end", PALE),
        text(right, top - 6, "rounding alone", 12, "end", RED),
        text(right, top + 70, "what epsilon allows at most", 12, "end", PALE),
        text(right, place(16, reached(EPSILON, 16))[1] - 10, "what this noise gives away", 12, "end", BLUE),
        text(left, HEIGHT - 14, "One answer: 56.2 % at most. Without asking: 50 %.", 12),
    ]
    return parts


def figure() -> str:
    """The whole figure, SVG."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'role="img" aria-label="Left: noisy counts with and without one person overlap. Right: the best '
        'guess about a person by the number of answers">'
    )
    page = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return "\n".join([head, page, *bars(), *lines(), "</svg>"]) + "\n"


if __name__ == "__main__":
    FIGURE.write_text(figure(), encoding="ascii")
