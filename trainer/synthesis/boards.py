"""Flat assemblies: circuit boards, solar cells, connectors. See Board."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from trainer.synthesis.noise import (
    Array,
    Rng,
    any_colour,
    cells,
    chance,
    colour,
    field,
    mix,
    octaves,
    plane,
    relief,
    turned,
)

Board = Callable[[Rng, int], tuple[Array, Array]]
"""Makes one board: (rng, side in pixels) to RGB float32 (size, size, 3) and foreground bool (size, size)."""


_WAYS = np.array([(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)])


def _route(rng: Rng, traces: Array, pads: Array, holes: Array, pitch: float, width: int) -> None:
    """Draw traces that turn by 45 degrees, singly or as a bus, with a pad or via at their ends."""
    size = traces.shape[0]
    for _ in range(int(rng.integers(8, 40))):
        at, way = np.round(rng.uniform(0, size, 2) / pitch) * pitch, int(rng.integers(8))
        points = [at]
        for _ in range(int(rng.integers(1, 5))):
            at = at + _WAYS[way] * pitch * rng.integers(1, 9)
            points.append(at)
            way = (way + int(rng.choice([-1, 1]))) % 8
        aside = _WAYS[(way + 2) % 8] * pitch
        for lane in range(int(rng.choice([1, 1, 1, 3, 6]))):
            path = np.asarray(points) + lane * aside
            cv2.polylines(traces, [np.round(path).astype(np.int32)], False, 255, width, cv2.LINE_AA)
            for end in (path[0], path[-1]):
                spot = (round(float(end[0])), round(float(end[1])))
                cv2.circle(pads, spot, max(1, round(pitch * 0.4)), 255, -1, cv2.LINE_AA)
                if chance(rng, 0.7):
                    cv2.circle(holes, spot, max(1, round(pitch * 0.18)), 255, -1, cv2.LINE_AA)


def _solder_rows(rng: Rng, pads: Array, holes: Array, pitch: float) -> None:
    """Draw rows of pads, round or long, as under headers and chips."""
    size = pads.shape[0]
    long = chance(rng, 0.5)
    for _ in range(int(rng.integers(0, 6))):
        x, y = np.round(rng.uniform(0, size, 2) / pitch) * pitch
        down = chance(rng, 0.5)
        for _ in range(int(rng.integers(3, 16))):
            x, y = (x, y + pitch) if down else (x + pitch, y)
            spot, half = (round(float(x)), round(float(y))), max(1, round(pitch * 0.3))
            if long:
                reach = (2 * half, max(1, half // 2)) if down else (max(1, half // 2), 2 * half)
                cv2.rectangle(
                    pads, (spot[0] - reach[0], spot[1] - reach[1]), (spot[0] + reach[0], spot[1] + reach[1]), 255, -1
                )
            else:
                cv2.circle(pads, spot, half, 255, -1, cv2.LINE_AA)
                cv2.circle(holes, spot, max(1, half // 2), 255, -1, cv2.LINE_AA)


def _poured(traces: Array, pads: Array, gap: int) -> Array:
    """Return copper everywhere but in a gap around traces and pads."""
    kernel = np.ones((2 * gap + 1, 2 * gap + 1), np.uint8)
    keep = np.maximum(traces, pads)
    return np.maximum(255 - cv2.dilate(keep, kernel), keep)


def circuit_board(rng: Rng, size: int) -> tuple[Array, Array]:
    """Make a circuit board: solder mask, traces, pads, vias, legends, chips and small parts."""
    base = colour(
        rng,
        [(0.05, 0.3, 0.12), (0.05, 0.15, 0.4), (0.35, 0.05, 0.05), (0.06, 0.06, 0.06), (0.7, 0.7, 0.66)][
            rng.integers(5)
        ],
        0.05,
    )
    board = np.ones((size, size, 3), np.float32) * base
    bare = chance(rng, 0.35)
    pitch = size / rng.uniform(14, 40)
    traces, pads, holes = (np.zeros((size, size), np.uint8) for _ in range(3))
    width = max(1, round(pitch * rng.uniform(0.15, 0.45)))
    _route(rng, traces, pads, holes, pitch, width)
    _solder_rows(rng, pads, holes, pitch)
    if chance(rng, 0.3):
        traces = _poured(traces, pads, max(1, round(pitch * 0.3)))
    metal = colour(rng, [(0.8, 0.65, 0.35), (0.75, 0.75, 0.74)][rng.integers(2)])
    copper = metal if bare else np.clip(base * 1.5 + 0.06, 0, 1)
    board = mix(board, copper, traces.astype(np.float32) / 255)
    solder = (
        metal
        * relief(cv2.GaussianBlur(pads, (0, 0), 1.0).astype(np.float32) / 255 * 2, rng.uniform(0, 6.28), 1.0)[..., None]
    )
    board = mix(board, solder, pads.astype(np.float32) / 255)
    board = mix(board, np.full(3, rng.choice([0.03, 0.9]), np.float32), holes.astype(np.float32) / 255)
    for _ in range(0 if bare else int(rng.integers(0, 9))):
        cx, cy = (int(v) for v in np.round(rng.uniform(0.05, 0.95, 2) * size / pitch) * pitch)
        half_x, half_y = (max(2, int(pitch * v)) for v in rng.uniform(0.6, 4.5, 2))
        legs = np.zeros((size, size), np.uint8)
        for lx in np.arange(cx - half_x + pitch / 4, cx + half_x, pitch / 1.6):
            cv2.rectangle(
                legs,
                (round(lx), cy - half_y - round(pitch / 2)),
                (round(lx + pitch / 4), cy + half_y + round(pitch / 2)),
                255,
                -1,
            )
        board = mix(board, colour(rng, (0.75, 0.75, 0.76), 0.05), legs.astype(np.float32) / 255)
        tone = colour(rng, [(0.08, 0.08, 0.09), (0.55, 0.45, 0.3), (0.85, 0.85, 0.82)][rng.integers(3)], 0.03)
        board = np.ascontiguousarray(board, np.float32)
        cv2.rectangle(board, (cx - half_x, cy - half_y), (cx + half_x, cy + half_y), tuple(tone.tolist()), -1)
        cv2.line(board, (cx - half_x, cy - half_y), (cx + half_x, cy - half_y), tuple((tone * 1.3).tolist()), 1)
        if half_x > 3 * pitch / 2:
            word = "".join(chr(rng.integers(48, 91)) for _ in range(5))
            legend = np.zeros((size, size), np.uint8)
            cv2.putText(legend, word, (cx - half_x + 2, cy), cv2.FONT_HERSHEY_PLAIN, pitch / 12, 255, 1, cv2.LINE_AA)
            board = mix(board, np.full(3, 0.7, np.float32), legend.astype(np.float32) / 255)
    board = board + rng.uniform(0.003, 0.02) * field(rng, (size, size), rng.uniform(1, 2))[..., None]
    return board, np.ones((size, size), bool)


def solar_cell(rng: Rng, size: int) -> tuple[Array, Array]:
    """Make a silicon cell, lit or by electroluminescence: fingers, busbars, crystal grains, cut corners."""
    x, y = plane((size, size), rng.choice([0, math.pi / 2]) + rng.normal(0, 0.01))
    glow = chance(rng, 0.6)
    base = rng.uniform(0.3, 0.75) if glow else rng.uniform(0.08, 0.3)
    value = base * (1 + rng.uniform(0.01, 0.08) * octaves(rng, (size, size), size / 3, 3))
    if chance(rng, 0.5):
        _, labels = cells(rng, (size, size), size / rng.uniform(5, 25))
        tone = 1 + rng.normal(0, rng.uniform(0.02, 0.13), labels.max() + 1).astype(np.float32)
        value = value * cv2.GaussianBlur(tone[labels], (0, 0), rng.uniform(0.6, 3))
        if glow:
            clouds = np.clip(octaves(rng, (size, size), size / rng.uniform(4, 12), 4) - rng.uniform(0.2, 1), 0, 1.5)
            value = value * (1 - rng.uniform(0.1, 0.5) * clouds)
    count, thick = int(rng.integers(2, 6)), size * rng.uniform(0.006, 0.025)
    bar = np.abs(np.mod(x + size / 2, size / count) - size / count / 2)
    fingers = np.mod(y, max(2.5, size / rng.uniform(30, 90)))
    value = value * (1 - rng.uniform(0.02, 0.2) * (fingers < 1.2))
    value = value + np.clip(thick / 2 + 0.5 - bar, 0, 1) * (
        (rng.uniform(0.02, 0.2) if glow else 0.8) - value
    ) * rng.uniform(0.6, 1)
    distance = np.maximum(np.abs(x), np.abs(y)) - size * rng.uniform(0.46, 0.52)
    if chance(rng, 0.5):
        distance = np.maximum(distance, (np.abs(x) + np.abs(y) - size * rng.uniform(0.8, 0.95)) / math.sqrt(2))
    alpha = np.clip(0.5 - distance, 0, 1)
    value = value * (1 - rng.uniform(0, 0.35) * np.exp(np.minimum(distance, 0) / (size * 0.03)))
    value = value + rng.uniform(0.005, 0.04) * field(rng, (size, size), 1)
    tint = np.ones(3, np.float32) if glow else np.clip(colour(rng, (0.35, 0.5, 1.0), 0.1), 0.1, 1)
    outside = np.full(3, rng.uniform(0, 0.1), np.float32) if glow else any_colour(rng)
    return mix(outside * np.ones((size, size, 3), np.float32), value[..., None] * tint, alpha), alpha > 0.5


def connector(rng: Rng, size: int) -> tuple[Array, Array]:
    """Make rows of pins, wires or contacts in a housing."""
    housing = any_colour(rng) * np.ones((size, size, 3), np.float32)
    housing = housing * (1 + 0.02 * turned(rng, (size, size), 2, 30, 0))[..., None]
    columns, rows = int(rng.integers(3, 14)), int(rng.integers(1, 7))
    x, y = plane((size, size))
    pitch_x, pitch_y = size / columns, size / rows
    u, v = np.mod(x + size / 2, pitch_x) - pitch_x / 2, np.mod(y + size / 2, pitch_y) - pitch_y / 2
    half_x, half_y = pitch_x * rng.uniform(0.15, 0.42), pitch_y * rng.uniform(0.15, 0.42)
    corner = min(half_x, half_y) * rng.uniform(0, 1)
    distance = (
        np.hypot(np.clip(np.abs(u) - half_x + corner, 0, None), np.clip(np.abs(v) - half_y + corner, 0, None)) - corner
    )
    number = (np.floor((x + size / 2) / pitch_x) + columns * np.floor((y + size / 2) / pitch_y)).astype(int) % (
        rows * columns
    )
    tones = (
        np.stack([any_colour(rng) for _ in range(rows * columns)])
        if chance(rng, 0.3)
        else np.tile(any_colour(rng), (rows * columns, 1))
    )
    tones = tones * (1 + rng.normal(0, 0.03, (rows * columns, 1)))
    shade = 1 + rng.uniform(0, 0.5) * (-u / half_x) + 0.03 * field(rng, (size, size), 1)
    alpha = np.clip(0.5 - distance, 0, 1)
    return mix(housing, tones[number].astype(np.float32) * shade[..., None], alpha), np.ones((size, size), bool)


BOARDS: tuple[tuple[Board, tuple[str, ...], float], ...] = (
    (circuit_board, ("circuit board", "pcb", "electronic board"), 1.2),
    (solar_cell, ("solar cell", "photovoltaic cell"), 1.0),
    (connector, ("connector", "cable", "electronic part"), 0.6),
)
"""(maker, nouns for it, how often relative to the others)."""
