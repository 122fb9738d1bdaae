"""Clips of a moving square, for measures that must not know the synthetic world."""

import numpy as np

EVENTS = np.array([0.4, 0.93, 1.55])


def contact_place(times: np.ndarray, events: np.ndarray = EVENTS) -> np.ndarray:
    """(T,) in [0, 1]: 0 at rest, 1 at each event, within 0.2 s to either side."""
    nearest = np.abs(times[:, None] - events).min(axis=1)
    return np.clip(1 - nearest / 0.2, 0, 1)


def change_place(times: np.ndarray, events: np.ndarray = EVENTS) -> np.ndarray:
    """(T,) in [0, 1]: over to the other end and back in turns within 0.2 s, fastest midway."""
    place = np.zeros_like(times)
    for number, event in enumerate(events):
        share = np.clip((times - event) / 0.2 + 0.5, 0, 1)
        place += (-1) ** number * share**2 * (3 - 2 * share)
    return place


PLACES = {"contact": contact_place, "change": change_place}


def draw_square(place: np.ndarray, height: int = 60, width: int = 80) -> np.ndarray:
    """(T, height, width, 3) uint8: a square of a quarter of the height, upper left to lower right.

    Its edges fall between pixels: coverage is exact, so that a slow movement is a smooth one.
    """

    def covered(start: np.ndarray, size: int, length: float) -> np.ndarray:
        pixels = np.arange(size)
        return np.clip(pixels + 1 - start[:, None], 0, 1) * np.clip(
            start[:, None] + length - pixels, 0, 1
        )

    side = height / 4
    rows = covered(0.1 * height + 0.5 * height * place, height, side)
    columns = covered(0.1 * width + 0.4 * width * place, width, side)
    share = (rows[:, :, None] * columns[:, None, :])[..., None]
    ground, colour = np.array([90.0, 120.0, 60.0]), np.array([220.0, 60.0, 160.0])
    return np.rint(ground + share * (colour - ground)).astype(np.uint8)
