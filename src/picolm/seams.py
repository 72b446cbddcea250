"""The seams of a run: what is drawn, shown and minimised; who changes that (Intervention), who watches (Observer).

One step of training goes through them in this order, and the loop in `training/` shows each of them:

    stage? rebuild -> before_step -> plan.rows(step) -> views -> count units -> [objective(view) -> backward]* -> reduce
    -> gradients -> clip -> update -> after_step -> log -> validate, capture, save

An `Intervention` changes one or more of these seams and nothing else.

Everything that is drawn is a pure function of the data's fingerprint, a seed and the step, so a run can be entered at
any step and never depends on how its rows are cut into micro-batches or who prepares them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from picolm.config import schema
from picolm.model.interface import LanguageModel
from picolm.text.tokenizer import Tokenizer

IGNORE = -100
"""Target of a position that is not scored (PyTorch's and Hugging Face's convention)."""

IntArray = npt.NDArray[np.int64]


class Draw(NamedTuple):
    """A row that a step draws: the number of the step, the place in its batch, the row."""

    step: int
    place: int
    row: int


class Plan(ABC):
    """Which sequences each optimizer step draws: pure in (fingerprint, seed, step), so any step can be asked for.

    Steps count from 0; step s is the update that turns the weights after s updates into those after s + 1.
    """

    @abstractmethod
    def size(self, step: int) -> int:
        """Number of sequences that the step draws."""

    @abstractmethod
    def start(self, step: int) -> int:
        """Number of sequences drawn by all steps before this one."""

    @abstractmethod
    def numbered(self, numbers: IntArray, step: int) -> IntArray:
        """The rows that sequence numbers of the whole run stand for, as it is known at a step [N]."""

    def rows(self, step: int) -> IntArray:
        """Ids of the step's sequences, in order [size(step)]."""
        first = self.start(step)
        return self.numbered(np.arange(first, first + self.size(step), dtype=np.int64), step)

    def horizon(self, step: int) -> int:
        """The first step whose rows may not be asked for while `step` runs, because they may still change.

        Asked after `before_step(step)`, and above `step`.
        """
        return 2**63 - 1

    def draws(self, rows: IntArray, steps: int) -> list[Draw]:
        """Where rows are drawn in the first `steps` steps, in order.

        This looks at every step, which works for any plan; a plan that can compute it does.
        """
        wanted = set(rows.tolist())
        return [
            Draw(step, place, row)
            for step in range(steps)
            for place, row in enumerate(self.rows(step).tolist())
            if row in wanted
        ]


class ChangedPlan(Plan):
    """A plan that changes another one: a subclass overrides what is different, and all else is as it was.

    What is not pure before `before_step` of some step is told by `horizon`; the nearest of all plans counts.
    """

    def __init__(self, base: Plan) -> None:
        self.base = base

    def size(self, step: int) -> int:
        """As the base has it."""
        return self.base.size(step)

    def start(self, step: int) -> int:
        """As the base has it; with another `size` it is another one too."""
        return self.base.start(step)

    def numbered(self, numbers: IntArray, step: int) -> IntArray:
        """As the base has it."""
        return self.base.numbered(numbers, step)

    def horizon(self, step: int) -> int:
        """As the base has it; one of its own must not be beyond it."""
        return self.base.horizon(step)


@dataclass(frozen=True, slots=True)
class Sequences:
    """Rows of tokens as they lie in the data, before anything is masked or shifted."""

    tokens: IntArray
    """[R, T + 1]: T positions and the token that follows them."""
    valid: IntArray
    """[R]: how many tokens of each row are real; the rest, at its end, is padding."""
    ids: IntArray
    """[R]: each row's number in its stream; with `stream` and `step` it keys every draw about the row."""
    stream: str
    """Where the rows come from: `train`, or the name of a held-out domain."""
    step: int
    """The step that draws them."""
    documents: IntArray | None = None
    """[R, T + 1]: the number of each token's document in its split; a separator belongs to the document before it, the
    first of all to the document after it, and padding to -1. None: not known, for rows that come from nowhere."""
    tags: IntArray | None = None
    """[R, T + 1]: the part of speech of each token, as `Split.tags`; 0: none. None: the data have no tags."""

    @property
    def segments(self) -> IntArray:
        """[R, T]: the document that each input position works for, which is that of the token it may predict.

        So the separator before a document is its beginning, and the one after it is still its own to predict.
        """
        assert self.documents is not None, "rows of data know their documents"
        return np.ascontiguousarray(self.documents[:, 1:])


@dataclass(frozen=True, slots=True)
class View:
    """The host tensors of one kind of forward: rows after masking, mapping or shifting.

    A view is counted whole before any forward, then cut into micro-batches; losses are sums divided by the whole count,
    so the way it is cut changes nothing beyond rounding.
    """

    name: str
    tensors: Mapping[str, Tensor]
    """Named tensors, each [R, ...]."""
    units: IntArray
    """[R], on the host: in each row, how many of the things the loss is averaged over (scored tokens, as a rule)."""
    inputs: tuple[str, ...] = ("input_ids",)
    """Names of the tensors that the model's forward takes."""
    features: tuple[str, ...] = ()
    """Names of the tensors that the model's forward hands on to each of its blocks, together, as `features`: one for a
    row [R], or position by position [R, T, ...]."""
    token_fields: frozenset[str] = frozenset({"input_ids"})
    """Names of the tensors that hold token ids."""
    host_fields: frozenset[str] = frozenset()
    """Names of the tensors that stay on the host, because what they decide (shapes) is decided there."""
    groups: IntArray | None = None
    """[R], ascending: rows with equal numbers are never parted (an episode). None: every row may be."""
    fixed: npt.NDArray[np.bool_] | None = None
    """[R]: rows whose hidden states are constants: computed without gradient, for a third of the cost. None: no row."""

    def with_documents(self, segments: IntArray) -> View:
        """The same view, in which attention and positions stop at the borders between `segments` [R, T].

        No mask for padding is needed then: padding is a segment of its own.
        """
        kept = tuple(name for name in self.inputs if name != "attention_mask")
        return replace(
            self,
            tensors={**self.tensors, "documents": torch.from_numpy(segments)},
            inputs=(*kept, "documents"),
            host_fields=self.host_fields | {"documents"},
        )

    @property
    def n_rows(self) -> int:
        """Number of rows, R."""
        return len(self.units)

    @property
    def n_units(self) -> int:
        """Number of units in the whole view."""
        return int(self.units.sum())

    def cut(self, max_rows: int) -> Iterator[View]:
        """Cut into views of at most `max_rows` rows; a group that is larger stays whole."""
        borders = self._borders()
        start = 0
        while start < self.n_rows:
            within = [border for border in borders if start < border <= start + max_rows]
            stop = within[-1] if within else next(border for border in borders if border > start)
            yield self._rows(slice(start, stop))
            start = stop

    def share(self, rank: int, ranks: int) -> tuple[View, bool]:
        """What one of several ranks computes: neighbouring rows, as many as the others have, groups whole.

        Returns:
            The rows; and whether they count. A rank for which none is left computes the first rows like another one,
            so that it has the same gradients, and lets them count for nothing.
        """
        if not self.n_rows:
            return self, True
        borders = [0, *self._borders()]
        first, last = (len(borders) - 1) * rank // ranks, (len(borders) - 1) * (rank + 1) // ranks
        if first == last:
            return self._rows(slice(0, borders[1])), False
        return self._rows(slice(borders[first], borders[last])), True

    def to(self, device: torch.device) -> View:
        """The same view on a device; the copy does not wait where the memory is pinned."""
        moved = {
            name: tensor if name in self.host_fields else tensor.to(device, non_blocking=True)
            for name, tensor in self.tensors.items()
        }
        return replace(self, tensors=moved)

    def pin(self) -> View:
        """The same view in page-locked memory, from which a GPU can copy without waiting."""
        return replace(self, tensors={name: tensor.pin_memory() for name, tensor in self.tensors.items()})

    def _borders(self) -> list[int]:
        if self.groups is None:
            return list(range(1, self.n_rows + 1))
        changes = np.flatnonzero(np.diff(self.groups)) + 1
        return [*changes.tolist(), self.n_rows]

    def where(self, chosen: npt.NDArray[np.bool_]) -> View:
        """Only the rows that are chosen [R], in order."""
        return self._rows(np.flatnonzero(chosen))

    def _rows(self, rows: slice | IntArray) -> View:
        return replace(
            self,
            tensors={name: tensor[rows] for name, tensor in self.tensors.items()},
            units=self.units[rows],
            groups=None if self.groups is None else self.groups[rows],
            fixed=None if self.fixed is None else self.fixed[rows],
        )


TermFunction = Callable[[LanguageModel, Tensor, Mapping[str, Tensor]], Tensor]
"""(model, hidden states [R, T, D], the view's tensors) -> sum of the loss over the view's units, a scalar."""

TokenFunction = Callable[[LanguageModel, Tensor, Mapping[str, Tensor]], Tensor]
"""(model, hidden states [R, T, D], the view's tensors) -> the loss at each position [R, T], NaN where there is none."""


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the loss: which view it reads, how it sums over that view's units, and its weight in the total."""

    view: str
    function: TermFunction
    weight: float = 1.0
    token_losses: TokenFunction | None = None
    """The same loss position by position, for those who look on; None where the term's units are no positions."""
    head: nn.Module | None = None
    """What is trained along with the model; None: the function itself where it is a module, else nothing. A function
    that is put in the place of another one leaves it as it is."""
    figures: Callable[[], Mapping[str, Tensor]] | None = None
    """Asked right after the function: what else it found, by name, each a sum over the view's units as the loss is.
    Their means stand in the log beside the losses; nothing is minimised by them."""

    def __post_init__(self) -> None:
        """Take a function that is a module for the head."""
        if self.head is None and isinstance(self.function, nn.Module):
            object.__setattr__(self, "head", self.function)


class Objective(nn.Module):
    """The model and the named terms of what is minimised.

    A forward runs the model once on one view and then the terms that read this view. Terms whose view a step does not
    hold are not run, so their parameters get no gradient. The heads of terms are trained along.
    """

    def __init__(self, model: LanguageModel, terms: Mapping[str, Term]) -> None:
        super().__init__()
        self.model = model
        self.terms = dict(terms)
        self.heads = nn.ModuleDict({name: term.head for name, term in terms.items() if term.head is not None})

    def with_terms(self, terms: Mapping[str, Term]) -> Objective:
        """The same model with these terms, which take the place of those of the same name."""
        return Objective(self.model, {**self.terms, **terms})

    def reads(self, view: View) -> bool:
        """Whether a term reads the view; one that none reads is not run."""
        return any(term.view == view.name for term in self.terms.values())

    def forward(self, view: View) -> dict[str, Tensor]:
        """Return, by name, each present term's sum over the units of `view`, unweighted, and its figures."""
        return self.sums(view, self.hidden(view))

    def sums(self, view: View, hidden: Tensor) -> dict[str, Tensor]:
        """The same from hidden states [R, T, D] that are there already; figures as `<term>.<figure>`."""
        found: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            if term.view == view.name:
                found[name] = term.function(self.model, hidden, view.tensors)
                figures = {} if term.figures is None else term.figures()
                found |= {f"{name}.{figure}": value for figure, value in figures.items()}
        return found

    def hidden(self, view: View) -> Tensor:
        """The model's hidden states [R, T, D] for a view."""
        if view.fixed is None or not view.fixed.any():
            return self._hidden(view)
        with torch.no_grad():
            parts = [self._hidden(view.where(view.fixed))]
        if not view.fixed.all():
            parts.append(self._hidden(view.where(~view.fixed)))
        order = np.argsort(np.concatenate([np.flatnonzero(view.fixed), np.flatnonzero(~view.fixed)]))
        return torch.cat(parts)[torch.from_numpy(order).to(parts[0].device)]

    def _hidden(self, view: View) -> Tensor:
        features = {name: view.tensors[name] for name in view.features}
        given = {name: view.tensors[name] for name in view.inputs}
        hidden: Tensor = self.model(**given, features=features) if features else self.model(**given)
        return hidden

    def total(self, sums: Mapping[str, Tensor], units: int) -> Tensor:
        """The weighted mean over `units` that is differentiated, from what `forward` returned; figures do not count."""
        weighted = [self.terms[name].weight * total for name, total in sums.items() if name in self.terms]
        return torch.stack(weighted).sum() / max(units, 1)


class Formulation(ABC):
    """What a run minimises: how rows become views, and which terms read those views."""

    scores_every_token: bool
    """Whether each token is predicted exactly once, so that bits per byte mean something."""

    @abstractmethod
    def views(self, sequences: Sequences, *, measure: bool) -> tuple[View, ...]:
        """Make the views of some rows; with `measure`, for validation, draws depend neither on seed nor on step."""

    @abstractmethod
    def terms(self) -> dict[str, Term]:
        """The named terms."""


Group = dict[str, Any]
"""Parameters that the optimizer treats alike: `names`, `params`, `weight_decay`, `peak` (learning rate), `muon`. One of
`names` is as in `Run.parameters`."""

GROUP_KEYS = frozenset({"names", "params", "weight_decay", "peak", "muon"})
"""What every group has; further keys stay with it, for a `schedule` to read."""

Rate = Callable[[int, Group], float]
"""(step, group) -> learning rate of that update."""

Reset = Callable[[str, dict[str, Tensor]], dict[str, Tensor]]
"""(parameter, what the optimizer keeps of it) -> what it shall keep; an empty one begins anew, its step count too."""


class Run(ABC):
    """What an intervention may use of the run that it is part of; each has its own, with its own random streams."""

    config: schema.Config
    """The whole configuration."""
    tokenizer: Tokenizer
    fingerprint: str
    """Of the data."""
    n_rows: int
    """Rows of the training split."""
    tag_names: tuple[str, ...]
    """What the numbers from 1 in `Sequences.tags` mean; empty where the data have no parts of speech."""
    step: int
    """Updates made. Not to be read in `views`, which runs ahead: there `sequences.step` is the step."""
    model: LanguageModel
    """The model as it is now, the same parameters also where it is compiled; from the first `before_step` on."""

    @abstractmethod
    def rng(self, *key: str | int) -> np.random.Generator:
        """A generator of this intervention's own: the same key gives the same draws, whenever it is asked."""

    @abstractmethod
    def torch_rng(self, *key: str | int) -> torch.Generator:
        """The same for tensors, on the CPU."""

    @abstractmethod
    def metadata(self, stream: str, field: str) -> Sequence[Any]:
        """A field of the documents' metadata, by the number of the document in its split; None where there is none.

        What the table of documents says of each (`id`, `domain`, `source`, `bytes`, `characters`) is one too, unless
        the metadata have a field of that name.

        Of probes with sources of their own nothing is known: None for every number.

        Args:
            stream: as in `Sequences`.
            field: for example `age_months`.
        """

    @abstractmethod
    def sequences(self, rows: IntArray, step: int = 0) -> Sequences:
        """Rows of the training split as they lie in the data, whichever a step draws: to look at, or to show.

        Args:
            rows: their numbers, each in range(n_rows).
            step: for views that are made of them, the step that shows them.
        """

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What is trained now, by name: the model's `layers.0.mlp.up_proj.weight`, a head's `heads.tags.weight`."""

    @abstractmethod
    def optimizer_state(self, name: str) -> dict[str, Tensor]:
        """What the optimizer keeps of a parameter; empty before its first update."""

    @abstractmethod
    def reset_state(self, names: Sequence[str], policy: Reset = lambda name, state: {}) -> None:
        """Change what the optimizer keeps of parameters, of all of them or of none; by default they begin anew."""

    @abstractmethod
    def score(self, rows: IntArray, formulation: Formulation | None = None) -> npt.NDArray[np.float64]:
        """The mean loss of each row under the model as it is now, as in validation: nats per scored token [R].

        Args:
            rows: of the training split.
            formulation: what is asked of each row; None: what the run minimises, before any intervention.
        """

    @abstractmethod
    def record(self, event: str, **facts: Any) -> None:
        """Leave a trace in the log, on the line of this step: what happened and what it changed.

        Facts are JSON values, or scalar tensors on any device, which are not waited for. What `plan`, `model`,
        `objective` and `groups` record counts where they build what is new, at the beginning and at stages, and not
        where a resumed run builds what was there.
        """


class Intervention:
    """One targeted change to how a run is trained: an object that changes some seams and leaves the others alone.

    A subclass overrides what it changes; everything here changes nothing. It holds no hidden state: what it remembers
    from step to step goes through `state_dict`, what it draws comes from `run.rng`.
    """

    class Settings(schema.Section):
        """What can be set, with types, ranges and descriptions; a subclass has its own."""

    exclusive: ClassVar[frozenset[str]] = frozenset()
    """Names of the methods that no other intervention of the same run may override."""

    def __init__(self, settings: Any) -> None:
        """Take the settings, an instance of `Settings`."""
        self.settings = settings

    def stages(self) -> Sequence[int]:
        """The steps before which structure changes: `model`, `objective` and `groups` are called again there.

        A `range` may go on beyond the end of the run.
        """
        return ()

    def plan(self, plan: Plan, run: Run) -> Plan:
        """Change which rows a step draws, or how many: as a rule by a `ChangedPlan`."""
        return plan

    def views(self, views: tuple[View, ...], sequences: Sequences, run: Run, *, measure: bool) -> tuple[View, ...]:
        """Change what the model is shown: masks, maps, features, further views, episodes.

        On another thread and ahead of the loop, so a pure function of its arguments, the settings and tables that only
        `before_step` changes, as the plan's `horizon` tells. With `measure`, for validation, scoring and probes,
        nothing may depend on seed, step or tables: held-out views are made once.
        """
        return views

    def model(self, model: LanguageModel, step: int, run: Run) -> LanguageModel:
        """Give the model the structure that it has at a step, in place or around it.

        The model comes as the configuration builds it. Afterwards every parameter takes up its value by name, so names
        of the base stay as they are; parameters that are new keep the values that they are given here.
        """
        return model

    def objective(self, objective: Objective, step: int, run: Run) -> Objective:
        """Add or replace terms (`objective.with_terms`); a term's head is trained along.

        A term may write its gradients itself: give the value plus, for each parameter p with gradient g, (p g).sum()
        less its own value, g detached. A module must not run compiled or fused where it is differentiated twice: see
        `objective.twin`.
        """
        return objective

    def groups(self, groups: list[Group]) -> list[Group]:
        """Change how parameters are grouped; together the groups hold every trainable parameter once."""
        return groups

    def schedule(self, rate: Rate) -> Rate:
        """Change the learning rate."""
        return rate

    def before_step(self, run: Run) -> None:
        """Act before the rows of a step are drawn: the only place where tables may change that plan and views read."""

    def gradients(self, run: Run) -> None:
        """Change the gradients (`run.parameters[name].grad`), the same on all ranks, before they are clipped."""

    def after_step(self, run: Run) -> None:
        """Act after an update and before anything is saved."""

    def export(self, model: LanguageModel) -> LanguageModel | None:
        """Turn a copy of the model into one of the base class (merge what was added); None where there is no such one.

        Must be overridden where `model` changes structure.
        """
        return model

    def state_dict(self) -> dict[str, Any]:
        """What it remembers: JSON values and tensors, by name; what JSON holds comes back as JSON gives it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave, tensors on the CPU; called before plan and model are built."""


SEAMS = (
    "plan",
    "views",
    "model",
    "objective",
    "groups",
    "schedule",
    "before_step",
    "gradients",
    "after_step",
)
"""The methods of an intervention that change a run."""


class Observer:
    """Sees a run and changes nothing. Every method may be left out; all values are plain data."""

    def started(self, facts: Mapping[str, Any]) -> None:
        """The run begins: its identity, its number of steps, and the forecast of what it takes."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """A line was written to `log.jsonl`."""

    def timed(self, record: Mapping[str, Any]) -> None:
        """A line was written to `timings.jsonl`."""

    def evaluating(self, what: str, done: int, total: int) -> None:
        """Training waits for an evaluation: what is asked, and how many of its items are done."""

    def ended(self, step: int) -> None:
        """The loop has ended after `step` updates, for whatever reason."""


Need = Literal["activation", "gradient", "weight", "moment", "update", "token_loss"]
"""What a measurement may take. One tensor each, but for `moment`, which is the optimizer's tensors by their names."""

Reading = float | Mapping[str, float] | Sequence[float] | Tensor
"""What a measurement gives: a value; several by name; or one for each head (a list, or a tensor [H])."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A metric that is computed while a model trains, from tensors that need not be stored.

    It runs at the steps of the capture: for each site that is there for all it needs, and for each probe where it needs
    what a batch shows. A matrix is the site of the module that holds it, so that `("activation", "weight")` at
    `layers.*.mlp.down_proj` gives both; a term of the loss is the site of its token losses.
    """

    name: str
    needs: tuple[Need, ...]
    sites: tuple[str, ...]
    """Patterns as in `model.sites`."""
    function: Callable[..., Reading]
    """Takes what is needed, in that order, on the host and in the model's own precision; changes none of it. An
    activation that is needed is seen at `capture.positions`; what there is not at step 0 (moments, the last update) is
    not measured then."""
