"""Lanes against numpy: eight numbers at a time must be what one at a time is."""

import math

import numpy as np
import pytest

from sage_core.splatting._lane_access import (
    column,
    first_bit,
    load,
    put,
    select,
    some,
    spread,
    store,
    total,
    totals,
    whole,
)
from sage_core.splatting._lanes import LANES
from sage_core.splatting._numba import kernel


@kernel
def arithmetic(a, b, out):
    x, y = load(a, 0), load(b, 0)
    x += 1
    inside = (x > y) & ~(x >= 2 * y) | (y < 0.25)
    results = (
        x * y - x / y,
        -min(x, y) + max(x, 3),
        math.sqrt(x) + math.log(x),
        math.floor(4 * y) - math.ceil(4 * x),
        select(inside, x, 0),
        select(x <= 3, spread(a[0]), y),
    )
    for n, lanes in enumerate(results):
        store(out[n], 0, lanes)
    return some(x > 100), some(inside)


@kernel
def exponentials(a, out):
    for start in range(0, a.shape[0], LANES):
        store(out, start, math.exp(load(a, start)))


@kernel
def sums(table):
    a, b, c, d = load(table[0], 0), load(table[1], 0), load(table[2], 0), load(table[3], 0)
    return total(a), total(totals(a, b, c, d, a * b, b * c, c * d, a - d)), total(b * c)


@kernel
def copy_column(source, target, ints):
    count = source.shape[0]
    for start in range(0, count, LANES):
        lanes = column(source, start, count, 1)
        put(target, start, count, 0, lanes * 2)
        put(ints, start, count, 1, whole(lanes))


@kernel
def lowest(bits):
    return first_bit(bits)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arithmetic_equals_numpys(dtype):
    a, b = np.random.default_rng(0).uniform(0.01, 4, (2, LANES)).astype(dtype)
    out = np.empty((6, LANES), dtype)
    assert arithmetic(a, b, out) == (False, True)
    x = a + dtype(1)
    inside = (x > b) & ~(x >= 2 * b) | (b < 0.25)
    wanted = (
        x * b - x / b,
        -np.minimum(x, b) + np.maximum(x, 3),
        np.sqrt(x) + np.log(x),
        np.floor(4 * b) - np.ceil(4 * x),
        np.where(inside, x, 0),
        np.where(x <= 3, a[0], b),
    )
    np.testing.assert_array_almost_equal_nulp(out, np.stack(wanted).astype(dtype), nulp=4)


@pytest.mark.parametrize(
    ("dtype", "lowest_power", "error"), [(np.float32, -87, 2e-7), (np.float64, -708, 5e-16)]
)
def test_exponential_to_the_last_digits(dtype, lowest_power, error):
    a = np.linspace(lowest_power, 80, 8000).astype(dtype)
    out = np.empty_like(a)
    exponentials(a, out)
    exact = np.exp(a.astype(np.longdouble))
    assert np.abs(out / exact - 1).max() < error
    exponentials(np.full(LANES, -np.inf, dtype), out)
    assert out[0] == pytest.approx(np.exp(dtype(lowest_power)), rel=1e-5)


def test_sums_of_lanes():
    table = np.random.default_rng(1).normal(size=(4, LANES))
    a, b, c, d = table
    one, eight, other = sums(table)
    assert one == pytest.approx(a.sum())
    assert other == pytest.approx((b * c).sum())
    products = a + b + c + d + a * b + b * c + c * d + a - d
    assert eight == pytest.approx(products.sum())


@pytest.mark.parametrize("count", [1, 7, 8, 19])
def test_columns_end_where_the_table_does(count):
    source = np.arange(3.0 * count).reshape(count, 3)
    target, ints = np.full((count, 2), -1.0), np.full((count, 2), -1, np.int32)
    copy_column(source, target, ints)
    assert (target[:, 0] == 2 * source[:, 1]).all()
    assert (ints[:, 1] == source[:, 1]).all()
    assert (target[:, 1] == -1).all()
    assert (ints[:, 0] == -1).all()


def test_lowest_bit():
    assert [lowest(n) for n in (1, 2, 12, 1 << 40)] == [0, 1, 2, 40]
