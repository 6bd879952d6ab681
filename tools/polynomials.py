"""Computes the polynomials of `chainrule.compiler.code.math` (needs mpmath): `python tools/polynomials.py`.

Each is the best approximation in the largest weighted error (Remez exchange) over the interval that
the range reduction leaves, and is printed as it stands in `code/coefficients.py`, lowest power first.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 70
Real = Callable[[mp.mpf], mp.mpf]


def remez(f: Real, weight: Real, low: float, high: float, degree: int) -> tuple[list[mp.mpf], mp.mpf]:
    """The polynomial p with the least max |weight · (p - f)| on [low, high], and that maximum."""
    low, high = mp.mpf(low), mp.mpf(high)
    count = degree + 2

    def node(t: mp.mpf) -> mp.mpf:
        return (low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * t)

    points = [node(mp.mpf(i) / (count - 1)) for i in range(count)]
    grid = [node(mp.mpf(i) / 400) for i in range(401)]
    values = [(x, f(x), weight(x)) for x in grid]
    for _ in range(12):
        matrix = mp.matrix(count, count)
        right = mp.matrix(count, 1)
        for i, x in enumerate(points):
            for j in range(degree + 1):
                matrix[i, j] = x**j
            matrix[i, degree + 1] = (-1) ** i / weight(x)
            right[i] = f(x)
        solution = mp.lu_solve(matrix, right)
        p = [solution[j] for j in range(degree + 1)]
        errors = [w * (mp.polyval(p[::-1], x) - y) for x, y, w in values]
        peaks: list[tuple[mp.mpf, mp.mpf]] = []
        for (x, _, _), e in zip(values, errors, strict=True):
            if peaks and (e > 0) == (peaks[-1][1] > 0):
                if abs(e) > abs(peaks[-1][1]):
                    peaks[-1] = (x, e)
            else:
                peaks.append((x, e))
        while len(peaks) > count:
            peaks.pop(0 if abs(peaks[0][1]) < abs(peaks[-1][1]) else -1)
        if len(peaks) < count:
            break
        points = [x for x, _ in peaks]
        if max(abs(e) for _, e in peaks) < 1.01 * min(abs(e) for _, e in peaks):
            break
    return p, max(abs(e) for e in errors)


def near_zero(f: Real, limit: mp.mpf) -> Real:
    """f with its limit at 0, where the formula divides by zero."""
    return lambda x: limit if abs(x) < mp.mpf(10) ** -20 else f(x)


HALF_LN2 = mp.log(2) / 2
ROOT = mp.sqrt(2)
QUARTER = (mp.pi / 4) ** 2


def log_remainder(z: mp.mpf) -> mp.mpf:
    """(2 artanh(s) / s - 2) / z with z = s²."""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) / s - 2) / z


def erfc_exponent(t: mp.mpf) -> mp.mpf:
    return -mp.log(mp.erfc(t)) / t


# name: function, weight of the error, interval, degree in float32, degree in float64
FITS: dict[str, tuple[Real, Real, float, float, int | None, int | None]] = {
    # exp(r) = 1 + r + r² p(r)
    "EXP": (
        near_zero(lambda r: (mp.exp(r) - 1 - r) / r**2, mp.mpf(1) / 2),
        lambda r: r * r if abs(r) > 0.05 else mp.mpf("0.0025"), -HALF_LN2, HALF_LN2, 4, 9,
    ),
    # log(1 + f) = f - f²/2 + f³ p(f)
    "LOG": (
        near_zero(lambda f: (mp.log(1 + f) - f + f * f / 2) / f**3, mp.mpf(1) / 3),
        lambda f: f * f if abs(f) > 0.02 else mp.mpf("0.0004"), 1 / ROOT - 1, ROOT - 1, 7, None,
    ),
    # 2 artanh(s) = 2 s + s z p(z) with z = s²
    "LOG_RATIO": (
        near_zero(log_remainder, mp.mpf(2) / 3), lambda z: z + mp.mpf("1e-4"), 0, (ROOT - 1) ** 2 / (ROOT + 1) ** 2,
        None, 6,
    ),
    # sin(r) = r + r z p(z), cos(r) = 1 - z/2 + z² p(z) with z = r²
    "SIN": (
        near_zero(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, -mp.mpf(1) / 6),
        lambda z: z + mp.mpf("1e-3"), 0, QUARTER, 2, 5,
    ),
    "COS": (
        near_zero(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mp.mpf(1) / 24),
        lambda z: z * z + mp.mpf("1e-3"), 0, QUARTER, 2, 5,
    ),
    # tanh(x) = x + x z p(z) with z = x²
    "TANH": (
        near_zero(lambda z: (mp.tanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, -mp.mpf(1) / 3),
        lambda z: z + mp.mpf("1e-3"), 0, 0.625**2, 4, 11,
    ),
    # erf(x) = x + x p(x²) up to 1, and beyond 1 - exp(-x p(x))
    "ERF": (
        near_zero(lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, 2 / mp.sqrt(mp.pi) - 1),
        lambda z: mp.mpf(1), 0, 1, 6, 12,
    ),
    "ERF_FAR_32": (erfc_exponent, lambda t: t * mp.erfc(t), 1, 4, 6, None),
    "ERF_FAR_64": (erfc_exponent, lambda t: t * mp.erfc(t), 1, 6, None, 17),
}  # fmt: skip


def main() -> None:
    for name, (f, weight, low, high, *degrees) in FITS.items():
        for bits, degree in zip((32, 64), degrees, strict=True):
            if degree is None:
                continue
            p, error = remez(f, weight, low, high, degree)
            print(f"# error 2^{float(mp.log(error, 2)):.1f}")
            print(f"{name.removesuffix(f'_{bits}')}_{bits} = (")
            for c in p:
                print(f"    {float(c)!r},")
            print(")")


if __name__ == "__main__":
    main()
