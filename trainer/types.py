"""The nouns of training: a run, what a method is told and yields, how a candidate was judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.recipe import Recipe
from core.work.types import Spec, Work
from feedback.types import Message

Prompt = tuple[Message, ...] | str
"""Chat messages, or plain text for completion."""

Start = Literal["fresh", "continued"]
"""`fresh`: a new adapter on the base model. `continued`: the live version trained further."""


Precision = Literal["auto", "float32", "bfloat16"]
"""Of the products in training; `auto`: bfloat16 where the device computes it and it is faster."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What a method may be told. The last six say how it is computed, not what is learnt.
    `precompute`: the reference reads each distinct answer once, not at every visit.
    `kl_rows`: of a step's rows, how many have KTO's KL term measured anew; it is the mean over
    the newest `batch_size` of them. 0: all. `tokens_at_once`: most tokens that go through the
    model at a time, padding counted; 0: by the device and the memory that is free.
    `gradient_checkpointing`: computes what the way back needs a second time instead of keeping
    it; None: where memory is too little otherwise. `load_in_4bit`: trains on the base model in 4
    bits (QLoRA); needs bitsandbytes and a GPU.
    """

    rank: int = 16
    alpha: int = 32
    target_modules: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    learning_rate: float = 1e-3
    beta: float = 2.0
    steps: int = 40
    batch_size: int = 8
    sft_weight: float = 0.1  # of the chosen answer's likelihood, in DPO
    max_length: int = 512
    seed: int = 0
    kl_budget: float | None = None  # nats per answer; None: trained to the last step, unwatched
    kl_token_budget: float = 0.0  # nats more for each token of an answer
    holdout: float = 0.0  # share of the prompts that is watched instead of learnt from
    patience: int = 3  # looks without a better margin
    precompute: bool = True
    kl_rows: int = 2
    tokens_at_once: int = 0
    gradient_checkpointing: bool | None = None
    load_in_4bit: bool = False
    precision: Precision = "auto"


@dataclass(frozen=True, slots=True)
class Progress:
    """One logged training step; `loss` and whatever else the method measures."""

    step: int
    steps: int
    metrics: Mapping[str, float]


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A PEFT adapter folder (adapter_model.safetensors + adapter_config.json) and its figures."""

    path: Path
    method: str
    start: Start
    steps: int
    train_s: float
    final_loss: float
    dropped_too_long: int
    examples: int = 0  # learnt from
    dropped_unreadable: int = 0  # refused by the model's chat template
    kept_step: int | None = None  # whose weights these are, where it is not the last one's
    stopped: str | None = None  # why it ended before the last step
    watched: int = 0  # answers set apart to be watched


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate with a 95 % percentile bootstrap interval.

    `n` is the number of items it rests on; labels of unequal number count for fewer, because
    the rarer kind limits what they can show (see `trainer.judging.bootstrap.preference_margin`).
    """

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """One regression suite: share passed by the candidate and by the reference, same prompts."""

    candidate: float
    reference: float
    difference: Interval  # candidate - reference, paired per prompt
    by_kind: Mapping[str, tuple[float, float]]
    base: float  # share passed by the bare base model, same prompts


@dataclass(frozen=True, slots=True)
class Compared:
    """A mean over sampled answers, the candidate's and the reference's to the same prompts."""

    candidate: float
    reference: float
    difference: Interval  # candidate - reference, paired per prompt


@dataclass(frozen=True, slots=True)
class AnswerFaults:
    """What is wrong with sampled answers, greedy ones and those at temperature 1 together.

    `endless`: share cut at the limit of tokens. `empty`: share with nothing to read.
    `repetition`: share of an answer's 4-grams that occurred in it before, 0 to 1.
    `endless_wanted`: share of the held-out answers people liked that are cut or as long as that.
    """

    endless: Compared
    empty: Compared
    repetition: Compared
    endless_wanted: float = 0.0


@dataclass(frozen=True, slots=True)
class NeutralText:
    """Perplexity of text nobody asked for, relative to another model's: 1.03 is 3 % worse.

    `to_reference` has its interval over the `passages` that the base can read at all.
    """

    to_reference: Interval
    to_base: float
    passages: int


@dataclass(frozen=True, slots=True)
class Taste:
    """Whether sampled answers moved towards what people like, by the words they are made of.

    `told_apart`: how often a liked answer scores over a disliked one it was not learnt from (the
    area under the ROC curve); 0.5 is guessing. `shift`: the candidate's answers' score minus the
    reference's, paired per prompt; the mean liked answer lies 1 above the mean disliked one.
    """

    told_apart: Interval
    shift: Interval


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured of one candidate on data it was not trained on.

    `margin`: held-out preference margin of the candidate minus the reference's (the live
    version, or the base when nothing is live), in nats.
    `kl_to_base`: mean over prompts of the summed token KL(candidate || base) on the candidate's
    own answers, in nats per answer; `answer_tokens` is the mean length of those answers.
    `length_ratio`: mean tokens of candidate over reference. `length_wanted`: mean tokens of the
    held-out answers people liked over the reference's own; None without any. `samples` are
    whole: a prompt, the reference's answer, the candidate's.
    """

    margin: Interval
    kl_to_base: float
    length_ratio: float
    suite: SuiteResult | None
    held_out_labels: int
    held_out_pairs: int
    seconds: float
    samples: tuple[tuple[str, str, str], ...] = ()
    length_wanted: float | None = None
    answer_tokens: float = 0.0
    faults: AnswerFaults | None = None
    neutral: NeutralText | None = None
    taste: Taste | None = None


@dataclass(frozen=True, slots=True)
class GateLimits:
    """The thresholds a candidate is held against; shares are fractions of 1.

    The KL to the base may be `kl_cap` nats an answer and `kl_token_cap` nats more for each of
    its tokens. A suite may drop by `suite_drop` against the reference; by up to
    `suite_drop_unproven` when the paired interval still includes no drop; by `suite_drop_total`
    against the bare base. Faults of sampled answers may grow in the same manner. Perplexity of
    neutral text may grow by `perplexity_rise` against the reference, by twice that against the
    base. Sampled answers count where liked ones are known from disliked ones `told_apart` of the
    time, and provably.
    """

    kl_cap: float = 2.0
    kl_token_cap: float = 0.05
    suite_drop: float = 0.01
    suite_drop_unproven: float = 0.03
    suite_drop_total: float = 0.03
    length_low: float = 0.8
    length_high: float = 1.25
    few_held_out: int = 67
    perplexity_rise: float = 0.03
    endless_rise: float = 0.10
    endless_rise_unproven: float = 0.25
    empty_rise: float = 0.01
    empty_rise_unproven: float = 0.03
    repetition_rise: float = 0.03
    repetition_rise_unproven: float = 0.10
    told_apart: float = 0.75

    def kl_allowed(self, tokens: float) -> float:
        """Largest KL to the base for answers of `tokens` tokens on average, nats an answer."""
        return self.kl_cap + self.kl_token_cap * tokens


@dataclass(frozen=True, slots=True)
class Check:
    """One of the gate's conditions, with the figures it was decided on."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's decision; promoted only if every check passed.

    `margin` is the evaluation's; None in verdicts of earlier releases.
    """

    promoted: bool
    checks: tuple[Check, ...]
    margin: Interval | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """The details of the failed checks, or of all when it was promoted."""
        failed = tuple(f"{c.name}: {c.detail}" for c in self.checks if not c.passed)
        return failed or tuple(f"{c.name}: {c.detail}" for c in self.checks)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was answered at temperature 1 before a run, and what its candidate answers."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Why a run was opened, what it has made, how that was judged.

    `recipe` is what it is trained by, each figure filled in. `last_feedback_seq` is the watermark:
    the newest feedback known when it was opened. `live_before` is the version live at
    that time, `version` the candidate it made. `samples` are kept with the verdict, for people to
    read.
    """

    trigger: str
    last_feedback_seq: int
    last_feedback_at_s: float | None
    live_before: int | None
    snapshot_digest: str | None = None
    recipe: Recipe | None = None
    version: int | None = None
    verdict: Verdict | None = None
    samples: tuple[Sample, ...] = ()


Run = Work[RunFacts]
"""One training run."""

RUN = Spec(
    name="learn",
    noun="run",
    prefix="run",
    active=("queued", "snapshot", "train", "evaluate", "gate", "publish"),
    ended={
        "succeeded": "succeeded",
        "rejected": "was rejected",
        "failed": "failed",
        "cancelled": "was cancelled",
    },
    facts=RunFacts,
)
