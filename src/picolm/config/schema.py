"""The typed description of a run: one frozen value, of which YAML and the command line are two spellings.

Every key has a type, a range and a meaning; an unknown key, a wrong type and a contradiction are refused when the value
is built. Field descriptions are the reference that `picolm config show` and the documentation print.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Tag, model_validator

from picolm.config.interventions import Use
from picolm.config.optimization import (
    AdamW,
    AdamWRule,
    Constant,
    Cosine,
    Decay,
    InverseRoot,
    Linear,
    Muon,
    Optimizer,
    Restarts,
    Schedule,
    StableDecay,
)
from picolm.config.recording import Capture, Checkpoints, Evaluation, ModelSteps, Probe, StateSteps, Steps
from picolm.config.section import (
    Count,
    Counts,
    Fraction,
    Positive,
    PositiveReal,
    Section,
    Seed,
    Strings,
    Weights,
    by_kind,
    one_is_a_list,
)

__all__ = [
    "AdamW",
    "AdamWRule",
    "Average",
    "Capture",
    "Causal",
    "Checkpoints",
    "Config",
    "Constant",
    "Cosine",
    "Data",
    "Decay",
    "Evaluation",
    "Init",
    "InverseRoot",
    "Linear",
    "Masked",
    "Model",
    "ModelSteps",
    "Muon",
    "Objective",
    "Optimizer",
    "Probe",
    "Restarts",
    "Samples",
    "Schedule",
    "Section",
    "Seeds",
    "StableDecay",
    "StateSteps",
    "Steps",
    "Tokenizer",
    "Training",
    "Use",
    "Validation",
]


class Data(Section):
    """Where the text comes from and how it becomes rows of tokens."""

    sources: Strings = Field(
        ("embedded:english",),
        description="files, folders, globs, `hf:NAME[:CONFIG][@SPLIT]`, or `embedded:english`",
    )
    validation_sources: Strings = Field((), description="held-out sources; empty: documents are split off the sources")
    validation_fraction: Fraction = Field(0.05, description="share of each domain's documents that is held out")
    prepared: str | None = Field(None, description="a directory made by `picolm data prepare`; replaces the sources")
    cache: str = Field(".picolm/data", description="where sources are prepared when `prepared` is not given")
    text_field: str = Field("text", description="the field or column that holds the text")
    domain_field: str = Field("domain", description="the field or column that names a document's domain")
    tagger: str | None = Field(
        None, description="a tagger made by `picolm text train-tagger`, which tags every document; null: none"
    )
    txt_documents: Literal["pieces", "file", "paragraphs", "lines"] = Field(
        "pieces",
        description="what a document is in a .txt file: pieces of about 8 kB cut at blank lines, or else",
    )
    mixture: Weights | None = Field(
        None,
        description="weights by which domains are drawn, on any scale, to a thousandth; null: all text alike",
    )
    sequence_length: Positive = Field(256, description="positions that the model sees at once, in tokens")
    document_borders: bool = Field(
        False, description="whether attention and positions begin anew at each document of a row"
    )
    preparation_workers: Count = Field(0, description="processes that tokenize; 0: as many as there are cores")
    loader_workers: Positive = Field(1, description="threads that build batches ahead; changes nothing but speed")
    prefetch_steps: Positive = Field(4, description="how many steps the loader may run ahead")
    verify: Literal["hashes", "sizes"] = Field(
        "hashes", description="what is checked of the shards when a run opens them"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Data:
        chosen = self.sources not in ((), Data.model_fields["sources"].default)
        if self.prepared is not None and chosen:
            raise ValueError("give `prepared` or `sources`, not both")
        if self.prepared is not None and self.tagger is not None:
            raise ValueError("`prepared` data are tagged or not already: give `tagger` to `picolm data prepare`")
        if self.prepared is None and not self.sources:
            raise ValueError("`sources` is empty: name a text file, a folder, a glob, or embedded:english")
        return self


class Tokenizer(Section):
    """How text becomes tokens; prepared data bring their own."""

    kind: Literal["bpe", "characters", "file"] = Field(
        "bpe", description="train byte-level BPE on the training documents, use characters, or load `path`"
    )
    vocab_size: Annotated[int, Field(ge=260)] = Field(
        8192, description="entries to train (bpe), special tokens and 256 bytes included"
    )
    path: str | None = Field(None, description="a `tokenizer.json` (kind: file)")
    separator: str | None = Field(
        None, description="the token between documents (kind: file); null: guessed from the usual names"
    )

    @model_validator(mode="after")
    def _path_belongs_to_file(self) -> Tokenizer:
        if (self.kind == "file") != (self.path is not None):
            raise ValueError("`path` and `kind: file` go together: give both or neither")
        return self


class Init(Section):
    """How parameters are drawn, each by (seeds.init, its name)."""

    scheme: Literal["depth_scaled", "pico"] = Field(
        "depth_scaled",
        description="depth_scaled: N(0, std), residual outputs by 1/sqrt(2 n_layers) smaller; pico: PyTorch's defaults",
    )
    std: PositiveReal = Field(0.02, description="standard deviation of the depth_scaled scheme")


class Model(Section):
    """The Transformer: pre-norm, RMSNorm, RoPE, grouped-query attention, SwiGLU, no biases."""

    vocab_size: Positive | None = Field(
        None, description="rows of the embedding; null: as many as the tokenizer has entries"
    )
    d_model: Positive = Field(96, description="width of the residual stream")
    n_layers: Positive = Field(12, description="blocks")
    n_heads: Positive = Field(12, description="query heads")
    n_kv_heads: Positive = Field(4, description="key and value heads; divides n_heads")
    d_ffn: Positive = Field(384, description="inner width of SwiGLU")
    max_length: Positive = Field(2048, description="longest sequence, in tokens")
    rope_theta: PositiveReal = Field(10000.0, description="base of the rotary embedding")
    norm_eps: PositiveReal = Field(1e-6, description="epsilon of RMSNorm")
    attention: Literal["causal", "bidirectional"] = Field("causal", description="what a position may look at")
    tied: bool = Field(False, description="whether the output matrix is the embedding")
    qk_norm: bool = Field(False, description="RMSNorm over each head's query and key (Qwen3)")
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="dropout on the embedding and on each sublayer's output; attention weights are never dropped"
    )
    init: Init = Init()

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @model_validator(mode="after")
    def _consistent(self) -> Model:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if self.head_dim % 2:
            raise ValueError(f"the head width d_model / n_heads = {self.head_dim} must be even for rotary embeddings")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        if self.tied and self.init.scheme == "pico":
            raise ValueError(
                "init.scheme 'pico' draws the embedding from N(0, 1), far too large for a tied output matrix: "
                "use init.scheme=depth_scaled or tied=false"
            )
        if self.qk_norm and self.attention == "bidirectional":
            raise ValueError("qk_norm has no bidirectional Hugging Face twin: use attention=causal or qk_norm=false")
        return self


class Causal(Section):
    """Next-token prediction: cross-entropy of each token given those before it."""

    kind: Literal["causal"] = "causal"


class Masked(Section):
    """Masked-token prediction (BERT): cross-entropy of corrupted positions given the whole sequence."""

    kind: Literal["masked"] = "masked"
    rate: Annotated[float, Field(gt=0.0, le=1.0)] = Field(0.15, description="share of positions that are predicted")
    mask_fraction: Fraction = Field(0.8, description="of these, share that becomes the mask token")
    random_fraction: Fraction = Field(0.1, description="of these, share that becomes a random token; the rest is kept")

    @model_validator(mode="after")
    def _fractions_leave_room(self) -> Masked:
        if self.mask_fraction + self.random_fraction > 1.0 + 1e-12:
            raise ValueError(
                f"mask_fraction {self.mask_fraction} and random_fraction {self.random_fraction} add up to more than 1"
            )
        return self


Objective = Annotated[
    Annotated[Causal, Tag("causal")] | Annotated[Masked, Tag("masked")],
    by_kind("causal"),
]


class Average(Section):
    """A second model whose weights are the exponential moving average of the first one's; training never sees it."""

    decay: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.999, description="what is kept of the average in each update; less at the beginning: (1 + t) / (10 + t)"
    )
    start: Count = Field(0, description="updates after which the average begins, from the weights as they are then")


class Training(Section):
    """The loop."""

    steps: Positive = Field(1000, description="optimizer steps")
    batch_size: Positive = Field(32, description="sequences per optimizer step")
    micro_batch_size: Positive | None = Field(
        None,
        description="at most this many sequences per forward; null: all. Changes rounding, and dropout masks",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: matrix products in bfloat16, master weights and sums in float32"
    )
    gradient_clip: PositiveReal | None = Field(1.0, description="largest norm of the gradient; null: no clipping")
    nonfinite_limit: Count = Field(
        20, description="how many steps with a non-finite loss or gradient are skipped before the run stops"
    )
    ema: Average | None = Field(
        None, description="an averaged model beside the trained one: its validation, and `ema/` in the checkpoint"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where the model lives")
    threads: Positive | None = Field(None, description="CPU threads of PyTorch; null: its default")
    deterministic: bool = Field(True, description="deterministic algorithms: two runs give the same bytes")
    compile: bool = Field(
        False, description="torch.compile, block by block: pays in runs of minutes, a minute of warm-up on a CPU"
    )
    log_every: Positive = Field(1, description="steps between lines of log.jsonl")
    flush_every: Positive = Field(20, description="steps between synchronisations with the device to write the log")


class Validation(Steps):
    """Loss on held-out documents, per domain; the last step always has one."""

    every: Count = Field(100, description="all multiples of this number; 0: none")
    at: Counts = Field((0,), description="these steps; 0 is the untrained model")
    tokens_per_domain: Positive = Field(
        100_000, description="whole documents of a domain are taken, in a fixed keyed order, up to this many tokens"
    )
    batch_size: Positive | None = Field(None, description="sequences per forward; null: the training micro-batch")


class Samples(Section):
    """Texts that the final model is asked to continue; they stand in the run's record and report."""

    prompts: Strings = Field(("",), description="beginnings; the empty one starts a new document")
    max_tokens: Positive = Field(80, description="tokens to add")
    temperature: Annotated[float, Field(ge=0.0)] = Field(0.8, description="0: always the likeliest token")
    top_k: Count = Field(0, description="draw among the k likeliest tokens only; 0: all")
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.95, description="draw among the likeliest tokens that together have this probability"
    )


class Seeds(Section):
    """What is drawn at random, each purpose from its own seed."""

    init: Seed = Field(0, description="parameters")
    data: Seed = Field(0, description="order and corruption of the data; the held-out documents never depend on it")
    dropout: Seed = Field(0, description="dropout masks")
    sampling: Seed = Field(0, description="generated text")
    interventions: Seed = Field(0, description="what interventions draw")


class Config(Section):
    """One run, whole."""

    data: Data = Data()
    tokenizer: Tokenizer = Tokenizer()
    model: Model = Model()
    objective: Objective = Causal()
    optimizer: Optimizer = AdamW()
    schedule: Schedule = Cosine()
    training: Training = Training()
    validation: Validation = Validation()
    checkpoints: Checkpoints = Checkpoints()
    capture: Capture = Capture()
    evaluation: Evaluation = Evaluation()
    samples: Samples = Samples()
    seeds: Seeds = Seeds()
    interventions: tuple[Use, ...] = Field((), description="what is changed about training, in order; each in one file")
    tracking: Annotated[tuple[Literal["tensorboard", "trackio", "wandb"], ...], BeforeValidator(one_is_a_list)] = Field(
        (), description="trackers that are fed from the log, each an extra of its name; files stay in the run"
    )

    def model_steps(self) -> list[int]:
        """After which updates the model is saved to stay, ascending; captures and evaluations refer to it."""
        steps = self.training.steps
        wanted = (self.checkpoints.model, self.capture, self.evaluation)
        return sorted({steps, *(step for schedule in wanted for step in schedule.up_to(steps))})

    def keeps_model(self, step: int) -> bool:
        """Whether `step` is one of `model_steps`."""
        wanted = (self.checkpoints.model, self.capture, self.evaluation)
        return step == self.training.steps or any(schedule.includes(step) for schedule in wanted)

    def asks(self, step: int) -> bool:
        """Whether the model after `step` updates is evaluated in the run."""
        return bool(self.evaluation.tasks) and (step == self.training.steps or self.evaluation.includes(step))

    @model_validator(mode="after")
    def _parts_agree(self) -> Config:
        wanted = "bidirectional" if self.objective.kind == "masked" else "causal"
        if self.model.attention != wanted:
            raise ValueError(
                f"objective.kind={self.objective.kind} needs model.attention={wanted}, not {self.model.attention}"
            )
        if self.data.sequence_length > self.model.max_length:
            raise ValueError(
                f"data.sequence_length {self.data.sequence_length} is longer than "
                f"model.max_length {self.model.max_length}"
            )
        if self.training.compile and self.data.document_borders:
            raise ValueError(
                "training.compile and data.document_borders do not go together: every batch would have new shapes"
            )
        self._schedule_fits()
        if self.training.ema is not None and self.training.ema.start >= self.training.steps:
            raise ValueError(
                f"training.ema.start {self.training.ema.start} leaves no update to average over "
                f"in training.steps {self.training.steps}"
            )
        return self

    def _schedule_fits(self) -> None:
        schedule, steps = self.schedule, self.training.steps
        if isinstance(schedule, Decay) and schedule.warmup_steps > (end := schedule.decay_steps or steps):
            raise ValueError(
                f"schedule.warmup_steps {schedule.warmup_steps} is beyond the step at which the decay ends, {end}; "
                f"for example, schedule.warmup_steps={max(end // 10, 1)}"
            )
        if isinstance(schedule, StableDecay) and schedule.warmup_steps + schedule.fall(steps) > steps:
            raise ValueError(
                f"schedule.warmup_steps {schedule.warmup_steps} and a decay of {schedule.fall(steps)} steps do not fit "
                f"into training.steps {steps}"
            )
