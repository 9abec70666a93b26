"""The outlines of the vehicles, seen from the side."""

from __future__ import annotations

from dataclasses import dataclass

from shards.drawings.canvas import Point


@dataclass(frozen=True)
class Part:
    """A painted outline: `role` names whose colour it takes, `radius` rounds its corners."""

    role: str
    points: list[Point]
    radius: float = 0.08


@dataclass(frozen=True)
class Vehicle:
    """A vehicle that faces right, in metres; the ground is y = 0, up is positive.

    Attributes:
        length: overall.
        height: overall.
        parts: from back to front.
        wheels: (x, radius) each, in front of all parts.
    """

    length: float
    height: float
    parts: list[Part]
    wheels: list[Point]


def _box(role: str, x0: float, y0: float, x1: float, y1: float, radius: float = 0.06) -> Part:
    return Part(role, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], radius)


def _cab() -> list[Part]:
    """The driver's cab and the chassis that lorry, tanker and tipper share."""
    return [
        _box("chassis", 0.2, 0.62, 7.0, 0.95),
        Part("body", [(6.65, 0.45), (6.65, 2.95), (7.9, 2.95), (8.4, 1.75), (8.5, 0.45)], 0.15),
        Part("glass", [(7.2, 1.75), (7.2, 2.65), (7.8, 2.65), (8.15, 1.75)], 0.08),
        _box("trim", 8.2, 0.7, 8.5, 0.95),
    ]


_TRUCK_WHEELS = [(1.1, 0.5), (2.2, 0.5), (7.5, 0.5)]

VEHICLES: dict[str, Vehicle] = {
    "sedan": Vehicle(
        4.7,
        1.45,
        [
            Part(
                "body",
                [
                    (0, 0.3),
                    (0, 0.92),
                    (0.95, 1.0),
                    (1.5, 1.45),
                    (2.75, 1.45),
                    (3.45, 1.0),
                    (4.55, 0.86),
                    (4.7, 0.55),
                    (4.68, 0.3),
                ],
                0.14,
            ),
            Part("glass", [(1.2, 1.02), (1.6, 1.36), (2.1, 1.36), (2.1, 1.0)], 0.05),
            Part("glass", [(2.22, 1.0), (2.22, 1.36), (2.7, 1.36), (3.2, 1.0)], 0.05),
            _box("trim", 0.1, 0.55, 4.6, 0.7, 0.02),
        ],
        [(0.95, 0.34), (3.8, 0.34)],
    ),
    "bus": Vehicle(
        9.6,
        3.1,
        [
            Part("body", [(0, 0.4), (0, 3.1), (9.35, 3.1), (9.6, 1.5), (9.6, 0.4)], 0.22),
            *[_box("glass", 0.3 + 1.15 * i, 1.6, 1.05 + 1.15 * i, 2.6) for i in range(7)],
            Part("glass", [(8.4, 1.55), (8.4, 2.7), (9.25, 2.7), (9.4, 1.55)], 0.06),
        ],
        [(2.1, 0.5), (6.5, 0.5)],
    ),
    "tractor": Vehicle(
        4.2,
        2.8,
        [
            Part("body", [(1.6, 0.75), (1.6, 1.75), (3.85, 1.6), (4.05, 0.85)], 0.12),
            _box("trim", 2.2, 1.15, 3.8, 1.4, 0.02),
            Part("cargo", [(0.55, 1.35), (0.7, 2.8), (2.0, 2.8), (2.15, 1.35)], 0.12),
            Part("glass", [(0.8, 1.55), (0.88, 2.55), (1.85, 2.55), (1.95, 1.55)], 0.06),
            _box("chassis", 2.85, 1.6, 3.0, 2.45, 0.02),
            Part("body", [(0.0, 1.45), (0.3, 1.9), (1.4, 1.9), (1.8, 1.3)], 0.15),
        ],
        [(0.95, 0.88), (3.45, 0.52)],
    ),
    "lorry": Vehicle(
        8.5,
        3.75,
        [
            *_cab(),
            _box("cargo", 0, 1.0, 6.4, 3.75, 0.05),
            *[_box("trim", 0.3 + 0.62 * i, 1.2, 0.52 + 0.62 * i, 3.55, 0.0) for i in range(10)],
        ],
        _TRUCK_WHEELS,
    ),
    "tanker": Vehicle(
        8.5,
        3.1,
        [
            *_cab(),
            _box("cargo", 0.0, 1.0, 6.4, 3.1, 1.05),
            *[_box("trim", 0.45, 1.33 + 0.6 * i, 5.95, 1.58 + 0.6 * i, 0.1) for i in range(3)],
            _box("cargo", 2.9, 3.05, 3.5, 3.35, 0.05),
        ],
        _TRUCK_WHEELS,
    ),
    "ambulance": Vehicle(
        5.2,
        2.5,
        [
            Part("body", [(0, 0.35), (0, 2.5), (3.6, 2.5), (4.4, 1.5), (5.05, 1.3), (5.2, 0.9), (5.2, 0.35)], 0.16),
            Part("glass", [(3.1, 1.5), (3.1, 2.25), (3.6, 2.25), (4.2, 1.5)], 0.06),
            *[
                _box("trim", 0.1 + 0.4 * i, 0.75 + 0.4 * (i % 2), 0.5 + 0.4 * i, 1.15 + 0.4 * (i % 2), 0)
                for i in range(12)
            ],
            _box("trim", 2.6, 2.45, 3.2, 2.7, 0.05),
        ],
        [(1.0, 0.38), (4.2, 0.38)],
    ),
    "tipper": Vehicle(
        8.5,
        3.2,
        [
            *_cab(),
            Part("cargo", [(0.5, 1.0), (-0.1, 2.7), (6.5, 3.2), (5.9, 1.0)], 0.05),
            *[Part("trim", [(1.1 + i, 1.05), (0.95 + i, 2.7), (1.05 + i, 2.7), (1.2 + i, 1.05)], 0) for i in range(5)],
        ],
        _TRUCK_WHEELS,
    ),
    "pickup": Vehicle(
        5.4,
        1.85,
        [
            Part(
                "body",
                [
                    (0, 0.45),
                    (0, 1.12),
                    (2.25, 1.12),
                    (2.35, 1.85),
                    (3.5, 1.85),
                    (4.1, 1.2),
                    (5.2, 1.1),
                    (5.4, 0.8),
                    (5.38, 0.45),
                ],
                0.1,
            ),
            Part("glass", [(2.5, 1.2), (2.52, 1.72), (2.9, 1.72), (2.9, 1.2)], 0.05),
            Part("glass", [(3.02, 1.2), (3.02, 1.72), (3.42, 1.72), (3.85, 1.2)], 0.05),
            _box("trim", 0.05, 1.0, 2.2, 1.12, 0.02),
        ],
        [(1.1, 0.42), (4.3, 0.42)],
    ),
    "van": Vehicle(
        5.2,
        2.4,
        [
            Part(
                "body",
                [(0, 0.35), (0, 2.4), (3.6, 2.4), (4.4, 1.45), (5.05, 1.25), (5.2, 0.9), (5.2, 0.35)],
                0.16,
            ),
            Part("glass", [(3.05, 1.45), (3.05, 2.15), (3.6, 2.15), (4.18, 1.45)], 0.06),
            _box("trim", 2.85, 0.5, 2.9, 2.2, 0.0),
            _box("trim", 0.2, 0.85, 2.7, 0.95, 0.02),
        ],
        [(1.0, 0.38), (4.2, 0.38)],
    ),
    "hatchback": Vehicle(
        3.7,
        1.68,
        [
            Part(
                "body",
                [
                    (0.02, 0.3),
                    (0, 0.9),
                    (0.35, 1.68),
                    (1.95, 1.68),
                    (2.7, 1.06),
                    (3.5, 0.92),
                    (3.7, 0.6),
                    (3.68, 0.3),
                ],
                0.16,
            ),
            Part("glass", [(0.32, 1.1), (0.52, 1.54), (1.1, 1.54), (1.1, 1.08)], 0.05),
            Part("glass", [(1.22, 1.08), (1.22, 1.54), (1.88, 1.54), (2.42, 1.08)], 0.05),
            _box("trim", 0.1, 0.55, 3.6, 0.7, 0.02),
        ],
        [(0.75, 0.35), (2.95, 0.35)],
    ),
    "motorcycle": Vehicle(
        2.2,
        1.25,
        [
            Part("chassis", [(0.4, 0.3), (0.75, 0.75), (0.85, 0.75), (0.5, 0.27)], 0.0),
            Part("chassis", [(1.72, 0.3), (1.42, 1.1), (1.5, 1.15), (1.84, 0.33)], 0.0),
            Part(
                "body",
                [(0.35, 0.78), (0.2, 0.95), (0.75, 0.85), (1.1, 1.02), (1.5, 0.95), (1.3, 0.62), (0.7, 0.6)],
                0.1,
            ),
            Part("trim", [(0.7, 0.3), (0.7, 0.62), (1.3, 0.62), (1.25, 0.3)], 0.08),
            Part("glass", [(1.35, 1.0), (1.42, 1.25), (1.5, 1.25), (1.55, 0.95)], 0.05),
        ],
        [(0.4, 0.32), (1.8, 0.32)],
    ),
}
"""Kinds by name; a toy download of K classes takes the first K."""
