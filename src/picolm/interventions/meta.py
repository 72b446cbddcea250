"""Meta-pretraining: steps on few-shot tasks that text poses by itself, between steps of the language model.

Tasks as in Bansal et al. (2020), SMLMT: which of N words was masked. Learned by an inner loop as in Finn et al. (2017),
MAML, and Raghu et al. (2020), ANIL; by Reptile (Nichol et al. 2018) or by prototypes (Snell et al. 2017); or by none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from picolm.errors import PicoLMError
from picolm.interventions.meta_settings import Settings as MetaSettings
from picolm.model.size import flops_per_token
from picolm.model.task_head import TaskHead
from picolm.objective.alternation import Alternation, Coins, ShuffledBlocks, Throughout, Within
from picolm.objective.episode_loss import EpisodeLoss
from picolm.objective.episodes import Episode, EpisodeSampler
from picolm.objective.window_pool import WindowPool, Windows
from picolm.seams import ChangedPlan, IntArray, Intervention, Objective, Plan, Run, Sequences, Term, View
from picolm.text.word_beginnings import word_beginnings

VIEW = "episodes"


class MetaPretraining(Intervention):
    """Adds steps on episodes (or, with `joint`, their loss to every step); the language model's own steps stay.

    An episode step draws no rows of the language model, so that its data are those of a run without, in that order.
    """

    class Settings(MetaSettings):
        """Episodes, how they are learned, and how often a step is made of them."""

    settings: Settings

    def stages(self) -> Sequence[int]:
        """With `joint`, where the weights of terms change."""
        bounds = [step for step in (self.settings.start, self.settings.stop) if step]
        return bounds if self._is_joint else ()

    def plan(self, plan: Plan, run: Run) -> Plan:
        """Leave out the language model's rows where a step is one of episodes."""
        self._prepare(run)
        return plan if self._is_joint else _Alternating(plan, self.alternation)

    def views(self, views: tuple[View, ...], sequences: Sequences, run: Run, *, measure: bool) -> tuple[View, ...]:
        """Show episodes, beside the language model's views, which are empty in a step of episodes."""
        if measure or not self.alternation.is_second(sequences.step):
            return views
        return (*views, self._view(sequences.step, run))

    def objective(self, objective: Objective, step: int, run: Run) -> Objective:
        """Add the term; `joint` shares the weight out between it and the others."""
        settings, config = self.settings, objective.model.config
        assert config.vocab_size is not None
        head = TaskHead(config.d_model, settings.hidden, settings.first, config.vocab_size, run.torch_rng("head"))
        loss = EpisodeLoss(head, settings.shape, settings.adaptation(config.d_model), self._inputs)
        term, others = Term(VIEW, loss, figures=loss.figures), objective.terms
        if self._is_joint and self.alternation.is_second(step):
            term = replace(term, weight=settings.ratio)
            others = {
                name: replace(other, weight=other.weight * (1 - settings.ratio)) for name, other in others.items()
            }
        run.record("episodes", **self._facts(run))
        return objective.with_terms({**others, VIEW: term})

    def after_step(self, run: Run) -> None:
        """Say, at steps that are logged, what was spent on each of the two."""
        if run.step % run.config.training.log_every == 0:
            run.record("spent", **self._spent(run.step, run))

    def _prepare(self, run: Run) -> None:
        settings = self.settings
        if run.tokenizer.mask_id is None:
            raise PicoLMError("meta_pretraining masks words, but the tokenizer has no mask token")
        length = run.config.data.sequence_length
        if settings.window > length:
            raise PicoLMError(
                f"meta_pretraining.window is {settings.window}, but a row has {length} tokens: make it {length} or "
                "less, or data.sequence_length larger"
            )
        self.alternation: Alternation = Within(self._mixing(run), settings.start, settings.stop)
        words = settings.types == "words"
        allowed = word_beginnings(run.tokenizer) if words else np.ones(run.tokenizer.vocab_size, dtype=np.bool_)
        allowed[sorted(run.tokenizer.special_ids)] = False
        seed = int(run.rng("windows").integers(2**62))
        windows = Windows(run.n_rows, length // settings.window, settings.window, (run.fingerprint, seed))
        # Two, for the steps that are built ahead where the pool is renewed.
        self._sampler = lru_cache(maxsize=2)(partial(self._sampler_of, run, windows, allowed))
        # What cannot be drawn is said now, not in the middle of the run.
        self._sampler(0)

    def _sampler_of(self, run: Run, windows: Windows, allowed: Any, number: int) -> EpisodeSampler:
        settings, mask_id = self.settings, run.tokenizer.mask_id
        assert mask_id is not None
        rows, starts = windows.chosen(number, settings.pool)
        tokens = run.sequences(rows).tokens
        places = starts[:, None] + np.arange(windows.length)
        pool = WindowPool(np.take_along_axis(tokens, places, axis=1), run.tokenizer.vocab_size)
        return EpisodeSampler(
            pool,
            settings.shape,
            allowed=allowed,
            mask_id=mask_id,
            most=settings.most,
            gamma=settings.gamma,
            shuffled=settings.placebo,
        )

    @property
    def _inputs(self) -> tuple[str, ...]:
        """What the model takes of a window; a prefix as long as the window is seen whole from everywhere."""
        return ("input_ids", "prefix") if self.settings.sees == "both" else ("input_ids",)

    @property
    def _is_joint(self) -> bool:
        return self.settings.mixing == "joint"

    def _mixing(self, run: Run) -> Alternation:
        if self._is_joint:
            return Throughout()
        kind = Coins if self.settings.mixing == "bernoulli" else ShuffledBlocks
        return kind(self.settings.ratio, partial(run.rng, "mixing"))

    def _view(self, step: int, run: Run) -> View:
        settings, shape = self.settings, self.settings.shape
        sampler = self._sampler(0 if settings.renew is None else step // settings.renew)
        episodes = [sampler.draw(run.rng("episode", step, number)) for number in range(settings.tasks)]
        is_query = np.tile(np.arange(shape.rows) >= shape.n_support, settings.tasks)
        tensors = {name: torch.from_numpy(array) for name, array in self._arrays(episodes).items()}
        if settings.sees == "both":
            tensors["prefix"] = torch.full((len(is_query),), settings.window)
        if settings.first == "random":
            width = settings.hidden[-1] if settings.hidden else run.config.model.d_model
            noise = torch.empty(settings.tasks * shape.rows, width)
            tensors["noise"] = noise.normal_(generator=run.torch_rng("noise", step))
        return View(
            name=VIEW,
            tensors=tensors,
            units=is_query.astype(np.int64),
            inputs=self._inputs,
            token_fields=frozenset({"input_ids", "types"}),
            groups=np.repeat(np.arange(settings.tasks), shape.rows),
            fixed=self._fixed(is_query),
        )

    def _arrays(self, episodes: list[Episode]) -> dict[str, IntArray]:
        """What each episode is, row by row; what belongs to its classes, or to itself, in its first rows."""
        shape, tokens = self.settings.shape, np.concatenate([one.tokens for one in episodes])
        first = np.zeros((len(episodes), shape.rows), dtype=np.int64)
        types, redraws = first.copy(), first.copy()
        types[:, : shape.ways] = np.stack([one.types for one in episodes])
        redraws[:, 0] = [one.redraws for one in episodes]
        last = np.full(len(tokens), tokens.shape[1] - 1, dtype=np.int64)
        masks = np.concatenate([one.positions for one in episodes])
        return {
            "input_ids": tokens,
            "labels": np.concatenate([one.labels for one in episodes]),
            "positions": masks if self.settings.readout == "mask" else last,
            "types": types.ravel(),
            "redraws": redraws.ravel(),
        }

    def _fixed(self, is_query: Any) -> Any:
        """The rows whose states are looked at only: all where the model runs anew in each inner step."""
        if self.settings.whole:
            return np.ones_like(is_query)
        return None if self.settings.derivative == "exact" else ~is_query

    def _spent(self, steps: int, run: Run) -> dict[str, Any]:
        """Tokens and operations of the first `steps` steps, of the language model and of episodes."""
        settings, config = self.settings, run.config
        n_episodes = self.alternation.before(steps)
        n_model = steps if self._is_joint else steps - n_episodes
        length, vocab_size = config.data.sequence_length, config.model.vocab_size
        assert vocab_size is not None
        tokens = config.training.batch_size * length
        forward = flops_per_token(config.model, 0, settings.window) // 3
        return {
            "model_steps": n_model,
            "episode_steps": n_episodes,
            "model_tokens": n_model * tokens,
            "episode_tokens": n_episodes * settings.tasks * settings.shape.rows * settings.window,
            "model_flops": n_model * tokens * flops_per_token(config.model, vocab_size, length),
            "episode_flops": n_episodes * settings.forwards * settings.window * forward,
        }

    def _facts(self, run: Run) -> dict[str, Any]:
        """What a reader of the log compares with: chance, and how long a plain run of the same tokens or cost is."""
        settings, steps = self.settings, run.config.training.steps
        spent = self._spent(steps, run)
        each = spent["model_flops"] / max(spent["model_steps"], 1)
        return {
            "algorithm": settings.algorithm,
            "placebo": settings.placebo,
            "chance_accuracy": 1 / settings.ways,
            "chance_loss": math.log(settings.ways),
            "candidates": len(self._sampler(0).candidates),
            "plain_steps_of_same_tokens": spent["model_steps"],
            "plain_steps_of_same_flops": round(spent["model_steps"] + spent["episode_flops"] / max(each, 1)),
        }


class _Alternating(ChangedPlan):
    """The base's steps, one after the other, with steps of episodes between them that draw no row."""

    def __init__(self, base: Plan, alternation: Alternation) -> None:
        super().__init__(base)
        self.alternation = alternation

    def size(self, step: int) -> int:
        """None in a step of episodes."""
        return 0 if self.alternation.is_second(step) else self.base.size(self._own(step))

    def start(self, step: int) -> int:
        """What the base's own steps before this one draw."""
        return self.base.start(self._own(step))

    def numbered(self, numbers: IntArray, step: int) -> IntArray:
        """As the base has it at its own step."""
        return self.base.numbered(numbers, self._own(step))

    def horizon(self, step: int) -> int:
        """Nothing ahead where the base's rows may change: it counts other steps."""
        horizon = self.base.horizon(self._own(step))
        return horizon if horizon == 2**63 - 1 else step + 1

    def _own(self, step: int) -> int:
        return step - self.alternation.before(step)
