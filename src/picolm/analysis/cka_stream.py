"""Linear CKA of all rows from batches of them, exactly, without holding the rows."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from picolm.analysis.cka import debiased_ratio, squared_lengths
from picolm.analysis.rows import precise_pair
from picolm.errors import PicoLMError

# Sums that cancel to less than this have lost half their digits: the offset is a hundred times as far from the rows as
# their mean.
_VANISHED = 1e-8


@dataclass(frozen=True, slots=True)
class _Moments:
    """Sums over rows x_i and y_i, with k_i = |x_i|^2 and m_i = |y_i|^2: all that HSIC needs of them."""

    n: int
    cross: Tensor
    """X^T Y [..., d, d']."""
    x: Tensor
    """sum x [..., d]."""
    y: Tensor
    """sum y [..., d']."""
    k: Tensor
    """sum k [...]."""
    m: Tensor
    """sum m [...]."""
    km: Tensor
    """sum k m [...]."""
    xm: Tensor
    """X^T m [..., d]."""
    yk: Tensor
    """Y^T k [..., d']."""

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> _Moments:
        k, m = squared_lengths(x), squared_lengths(y)
        xm, yk = (m[..., None, :] @ x)[..., 0, :], (k[..., None, :] @ y)[..., 0, :]
        return cls(x.shape[-2], x.mT @ y, x.sum(-2), y.sum(-2), k.sum(-1), m.sum(-1), (k * m).sum(-1), xm, yk)

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def biased(self) -> Tensor:
        """|X^T Y|_F^2 of centred rows."""
        centred = self.cross - self.x[..., :, None] * self.y[..., None, :] / self.n
        return centred.square().sum((-2, -1))

    def known(self) -> Tensor:
        """Whether a side, with itself, varies by enough beside its offset for its sums to be precise [...]."""
        return self.biased() > _VANISHED * self.cross.square().sum((-2, -1))

    def unbiased(self) -> Tensor:
        """The unbiased estimator of HSIC, times n (n - 3); no shift of the rows changes it."""
        n = self.n
        pairs = self.cross.square().sum((-2, -1)) - self.km
        # Sums over i != j of x_i . x_j and of y_i . y_j.
        sum_x, sum_y = self.x.square().sum(-1) - self.k, self.y.square().sum(-1) - self.m
        through = ((self.x[..., None, :] @ self.cross)[..., 0, :] * self.y).sum(-1)
        triples = through - (self.x * self.xm).sum(-1) - (self.y * self.yk).sum(-1) + self.km
        return pairs + sum_x * sum_y / ((n - 1) * (n - 2)) - 2 / (n - 2) * triples


class CKAStream:
    """Collects rows batch by batch; at any time, the CKA of all rows so far.

    It equals `debiased_cka` and `biased_cka` of the rows together to about 1e-12, whatever the batches. It holds
    d^2 + d d' + d'^2 numbers (leading dimensions apart). Streams of different ranks or files add up:

        stream = CKAStream(offset_x, offset_y).add(x, y) + CKAStream(offset_x, offset_y).add(more_x, more_y)
    """

    def __init__(self, offset_x: Tensor, offset_y: Tensor) -> None:
        """Begin without rows.

        Args:
            offset_x: [..., d], near the mean of the rows (that of a first batch): it is subtracted from each, which
                changes no value and leaves sums that do not cancel.
            offset_y: [..., d'].
        """
        self._offsets = offset_x.double(), offset_y.double()
        self._moments: tuple[_Moments, _Moments, _Moments] | None = None

    def add(self, x: Tensor, y: Tensor) -> CKAStream:
        """Collect rows.

        Args:
            x: [..., b, d], one row or more.
            y: [..., b, d'], the same rows.

        Returns:
            The stream itself.

        Raises:
            PicoLMError: the rows do not fit each other or the offsets.
        """
        x, y = precise_pair(x, y, least=1)
        widths = [offset.shape[-1] for offset in self._offsets]
        if [x.shape[-1], y.shape[-1]] != widths:
            raise PicoLMError(
                f"rows of a stream must have the widths of its offsets, {widths}, not {[x.shape[-1], y.shape[-1]]}"
            )
        x, y = x - self._offsets[0][..., None, :], y - self._offsets[1][..., None, :]
        self._collect(_Moments.of(x, x), _Moments.of(x, y), _Moments.of(y, y))
        return self

    def __add__(self, other: CKAStream) -> CKAStream:
        """The stream of the rows of both.

        Raises:
            PicoLMError: their offsets differ.
        """
        pairs = zip(self._offsets, other._offsets, strict=True)
        if not all(mine.shape == theirs.shape and bool((mine == theirs).all()) for mine, theirs in pairs):
            raise PicoLMError("streams of CKA add up only when they began with the same offsets")
        both = CKAStream(*self._offsets)
        for stream in (self, other):
            if stream._moments is not None:
                both._collect(*stream._moments)
        return both

    @property
    def n(self) -> int:
        """Rows so far."""
        return 0 if self._moments is None else self._moments[0].n

    def debiased(self) -> Tensor:
        """`debiased_cka` of all rows [...]; NaN too where a side lies so far from its offset that its sums cancel.

        Raises:
            PicoLMError: there are fewer than four.
        """
        xx, xy, yy = self._collected(least=4)
        ratio = debiased_ratio(xy.unbiased(), xx.unbiased(), yy.unbiased(), xx.biased(), yy.biased())
        return torch.where(xx.known() & yy.known(), ratio, torch.nan)

    def biased(self) -> Tensor:
        """`biased_cka` of all rows [...]; NaN as for `debiased`.

        Raises:
            PicoLMError: there are fewer than two.
        """
        xx, xy, yy = self._collected(least=2)
        ratio = xy.biased() / (xx.biased().sqrt() * yy.biased().sqrt())
        return torch.where(xx.known() & yy.known(), ratio, torch.nan)

    def _collect(self, *moments: _Moments) -> None:
        xx, xy, yy = moments
        if self._moments is None:
            self._moments = xx, xy, yy
        else:
            before = self._moments
            self._moments = before[0] + xx, before[1] + xy, before[2] + yy

    def _collected(self, least: int) -> tuple[_Moments, _Moments, _Moments]:
        if self._moments is None or self.n < least:
            raise PicoLMError(f"CKA of a stream needs {least} rows or more, not {self.n}")
        return self._moments
