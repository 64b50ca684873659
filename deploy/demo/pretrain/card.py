"""Owns the text of the model card; its figures are those the pretraining command measured.

Must not know: torch.
"""

from deploy.demo.pretrain.evaluate import Figures
from deploy.demo.pretrain.train import Recipe
from deploy.demo.world import INTENTS, STYLES


def model_card(recipe: Recipe, parameters: int, train_s: float, figures: list[Figures]) -> str:
    """The card as Markdown."""
    header = " | ".join(STYLES)
    rows = "\n".join(_row(f) for f in figures)
    rule = "|---" * (5 + len(STYLES)) + "|"
    return f"""# Attune demo model

A {parameters / 1e6:.1f}M-parameter Llama ({recipe.layers} layers, hidden {recipe.hidden}) that
answers {len(INTENTS)} kinds of questions about Tarnwick, a town that does not exist, each in one
of {len(STYLES)} styles ({", ".join(STYLES)}) drawn about evenly. It exists so that learning from
feedback can be watched on a laptop in seconds. It knows nothing else, and none of what it says
about Tarnwick is true of any real place.

Trained from scratch on text made by `deploy/demo/world`: no data from people, no other model.
Reproduce it with `python -m deploy.demo.pretrain --out deploy/model --steps {recipe.steps}
--seed {recipe.seed}` ({recipe.steps * recipe.batch_tokens / 1e6:.1f}M tokens, {train_s:.0f} s when
this card was written). Format: ChatML, at most 1024 tokens, `<|im_end|>` ends an answer.

Measured on {figures[0].prompts} questions whose combinations of slots were never trained on
(`python -m deploy.demo.pretrain.evaluate deploy/model`):

| temperature | facts right | style known | ended | tokens | {header} |
{rule}
{rows}
"""


def _row(figures: Figures) -> str:
    shares = " | ".join(f"{share:.1%}" for share in figures.styles.values())
    return (
        f"| {figures.temperature} | {figures.facts_right:.1%} | {figures.style_recognised:.1%} "
        f"| {figures.ended:.1%} | {figures.mean_tokens:.0f} | {shares} |"
    )
