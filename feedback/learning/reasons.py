"""Why something said teaches nothing, a sentence for each reason.

The reasons are those counted in `dropped`, and those of an item that no adapter can learn from.
"""

from __future__ import annotations

from feedback.learning.votes import MIN_SCORES

_SENTENCES = {
    "comment": "A comment or a label by name is kept and shown; nothing in it can be trained on.",
    "expired": "It is older than the adapter's learning.expire_after_s.",
    "superseded": "The same voice has said otherwise since.",
    "outvoted": "Most other voices say otherwise.",
    "contradicted": "As many voices say the one as the other.",
    "too_few_scores": f"A score alone teaches nothing until the same voice has scored {MIN_SCORES} "
    "answers under its name, or two answers to one prompt.",
    "middling_score": "It lies too close to the mean of the same voice's scores of that name.",
    "unknown_answer": "It speaks of an answer that is not recorded as completed.",
    "other_adapter": "It speaks of answers of another adapter.",
    "other_tenant": "It speaks of an answer of another tenant.",
    "not_completed": "The answer was cut off or failed.",
    "tool_calls": "The prompt or the answer calls tools.",
    "not_text": "The prompt is not plain text.",
    "empty_answer": "The answer, or the correction, is empty.",
    "not_as_served": "The tokens it was served as were not kept, and its text gives others.",
    "multi_modal": "The prompt holds more than text, which training does not.",
    "several_prompts": "The model was asked several times for this one answer.",
    "beam_search": "The answer was searched for by beams and not sampled.",
    "empty_prompt": "There is no token that the answer comes after.",
    "no_such_choice": "choice_index is beyond the choices of the answer.",
    "too_long": "Prompt and answer are over ATTUNE_TRAIN_MAX_LENGTH tokens.",
    "refused_by_template": "The model's chat template does not take the prompt.",
    "unchanged_correction": "The correction says what the answer said.",
    "same_text": "The compared answers are the same text.",
    "prompts_differ": "The compared answers are to different prompts.",
    "over_user_share": "One user stands behind half of what this adapter learns already.",
    "awaiting_answer": "The answer is not recorded yet; what is said of it counts once it is.",
    "base_answer": "It is an answer of the base model, which learns nothing: ask under an "
    "adapter's name.",
}


def sentence(reason: str) -> str:
    """What the reason means, for whoever gave the feedback."""
    return _SENTENCES.get(reason, f"It is left out as {reason}: see docs/feedback.md.")
