"""What is left of the optimizer's moments when a parameter begins anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from picolm.errors import PicoLMError

MOMENTS = ("exp_avg", "exp_avg_sq")
Kind = Literal["zero", "random", "magnitude", "keep"]


@dataclass(slots=True)
class StateReset:
    """Takes from the moments of parameters a share of their elements; a `Reset` for `Run.reset_state`.

    With one mask for both moments an element keeps both or neither. With two, one that keeps its first moment but not
    its second is moved by m / eps, which is 1e4 to 1e5 times the learning rate.

    Attributes:
        kind: `zero`: all; `random`: each element with probability `ratio`; `magnitude`: the floor(ratio N) smallest
            elements, of equal ones the first; `keep`: none.
        ratio: the share, for `random` and `magnitude`.
        shared: whether both moments lose the same elements: for `magnitude` those where the first moment is small.
        restart_count: whether the count of updates, which corrects the moments' bias, begins anew.
        rng: gives the generator of a key, on the CPU.
    """

    kind: Kind
    ratio: float
    shared: bool
    restart_count: bool
    rng: Callable[..., torch.Generator]
    zeroed: int = field(default=0, init=False)
    """Elements that were set to zero, or were zero before, among those that were chosen."""
    seen: int = field(default=0, init=False)

    def __call__(self, name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is kept of a parameter's state.

        Raises:
            PicoLMError: it is not that of Adam in floating point.
        """
        odd = [key for key in MOMENTS if key not in state or not state[key].is_floating_point()]
        if odd:
            raise PicoLMError(
                f"the optimizer keeps no '{odd[0]}' in floating point of {name}: only Adam's moments can be reset"
            )
        kept = dict(state)
        mask: Tensor | None = None
        for key in MOMENTS:
            moment = state[key]
            if mask is None or not self.shared:
                mask = self._mask(moment, name, key)
            kept[key] = moment * mask
            self.zeroed, self.seen = self.zeroed + int((~mask).sum()), self.seen + mask.numel()
        if self.restart_count:
            if self.kind == "zero":
                # With nothing kept the optimizer begins by itself.
                return {}
            kept["step"] = torch.zeros_like(state["step"])
        return kept

    @property
    def fraction(self) -> float:
        """The share of elements that was taken so far."""
        return self.zeroed / max(self.seen, 1)

    def _mask(self, moment: Tensor, name: str, key: str) -> Tensor:
        """True where an element stays."""
        if self.kind in ("zero", "keep"):
            return torch.full_like(moment, self.kind == "keep", dtype=torch.bool)
        if self.kind == "random":
            drawn = torch.rand(moment.shape, generator=self.rng("reset", name, key))
            return (drawn >= self.ratio).to(moment.device)
        # Sorted, not by a quantile: exact where elements are equal, and of any size.
        order = moment.abs().flatten().argsort(stable=True)
        mask = torch.ones(moment.numel(), dtype=torch.bool, device=moment.device)
        mask[order[: int(self.ratio * moment.numel())]] = False
        return mask.view_as(moment)
