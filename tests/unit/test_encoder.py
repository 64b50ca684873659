"""What is trained of a recorded answer: the ids that were served, or what must have been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from feedback.learning.recorded import Counted, Recorded, Refused, corrected
from trainer.model.encoding import encode
from trainer.model.recorded import Encoder

LONGEST = 120
HI = ({"role": "user", "content": "Hi"},)


class Characters:
    """A tokenizer whose tokens are bytes; turns end with the end token 0 and a line break."""

    eos_token = "\0"

    def __len__(self) -> int:
        return 256

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return bytes(one for one in ids if one).decode(errors="replace")

    def apply_chat_template(
        self, messages: list[dict[str, Any]], *, add_generation_prompt: bool, **_: Any
    ) -> dict[str, list[int]]:
        if messages[0]["role"] == "assistant":
            raise TemplateError("conversations begin with the user")
        told = "".join(f"<{m['role'][:4]:4}>{m['content']}\0\n" for m in messages)
        return {"input_ids": list((told + "<assi>" * add_generation_prompt).encode())}


def ids(text: str) -> list[int]:
    return list(text.encode())


def encoded(recorded: Recorded, longest: int = LONGEST) -> tuple[str, str]:
    """Prompt and answer as trained, told as the texts they are the bytes of."""
    prompt, answer = Encoder(Characters(), longest)(recorded)
    return bytes(prompt).decode(), bytes(answer).decode()


def reason(recorded: Recorded, longest: int = LONGEST) -> str:
    with pytest.raises(Refused) as refused:
        Encoder(Characters(), longest)(recorded)
    return str(refused.value)


def counted(prompt: str, *answers: str) -> Counted:
    """Of what the engine read and sampled, the end token included."""
    return Counted(len(prompt), sum(map(len, answers)), tuple(a.rstrip("\0") for a in answers))


PROMPT = "<user>Hi\0\n<assi>"
SERVED = Recorded(HI, "Hello.", ids("<tool>…" + PROMPT), ids("Hello.\0"))


def test_what_was_served_is_trained_as_it_was() -> None:
    assert encoded(SERVED) == ("<tool>…" + PROMPT, "Hello.\0")
    cut = Recorded(HI, "Hel", ids(PROMPT), ids("Hel"))
    assert encoded(cut) == (PROMPT, "Hel")


def test_what_was_counted_otherwise_is_left_out() -> None:
    as_served = Recorded(HI, "Hello.", counted=counted(PROMPT, "Hello.\0"))
    assert encoded(as_served) == (PROMPT, "Hello.\0\n")
    tools = counted("T" + PROMPT, "Hello.\0")
    assert reason(Recorded(HI, "Hello.", counted=tools)) == "not_as_served"
    longer = Counted(len(PROMPT), 8, ("Hello.",))
    assert reason(Recorded(HI, "Hello.", counted=longer)) == "not_as_served"


def test_an_answer_that_was_cut_is_learnt_without_an_end() -> None:
    cut = Recorded(HI, "Hel", cut=True, counted=Counted(len(PROMPT), 3, ("Hel",)))
    assert encoded(cut) == (PROMPT, "Hel")
    assert encoded(Recorded(HI, "Hel", cut=True)) == (PROMPT, "Hel")
    ended = Recorded(HI, "Hel", counted=Counted(len(PROMPT), 3, ("Hel",)))
    assert reason(ended) == "not_as_served"


def test_several_answers_are_held_against_their_sum() -> None:
    several = counted(PROMPT, "Hello.\0", "Hi!\0", "Hello.\0")
    assert encoded(Recorded(HI, "Hi!", counted=several)) == (PROMPT, "Hi!\0\n")
    assert encoded(Recorded(HI, "Hello.", counted=several)) == (PROMPT, "Hello.\0\n")
    one_more = Counted(several.prompt_tokens, 19, several.answers)
    assert reason(Recorded(HI, "Hi!", counted=one_more)) == "not_as_served"


def test_plain_text_ends_with_the_end_token() -> None:
    assert encoded(Recorded("Once ", "upon", counted=Counted(5, 5, ("upon",)))) == (
        "Once ",
        "upon\0",
    )
    cut = Recorded("Once ", "upon", cut=True, counted=Counted(5, 4, ("upon",)))
    assert encoded(cut) == ("Once ", "upon")


def test_what_the_template_refuses_or_nobody_asked_is_left_out() -> None:
    assert reason(Recorded(({"role": "assistant", "content": "x"},), "y")) == "refused_by_template"
    assert reason(Recorded((), "y")) == "refused_by_template"
    assert reason(Recorded("", "y")) == "empty_prompt"


def test_ids_that_no_model_has_are_left_out() -> None:
    assert reason(Recorded(HI, "a", [256], [1])) == "not_as_served"
    assert reason(Recorded(HI, "a", [1], [255, 2**31])) == "not_as_served"


@pytest.mark.parametrize(("longest", "fits"), [(22, False), (23, True)])
def test_the_longest_that_fits_is_taken(longest: int, fits: bool) -> None:
    """The prompt has 16 ids, the answer 7; through the template the answer has one more."""
    served = Recorded(HI, "Hello.", ids(PROMPT), ids("Hello.\0"))
    if fits:
        assert encoded(served, longest) == (PROMPT, "Hello.\0")
        assert reason(Recorded(HI, "Hello."), longest) == "too_long"
    else:
        assert reason(served, longest) == "too_long"


def test_a_correction_follows_the_served_prompt_and_closes_as_the_template_closes() -> None:
    assert encoded(corrected(SERVED, "Hi!")) == ("<tool>…" + PROMPT, "Hi!\0\n")
    plain = Recorded("Once ", "upon", ids("Once "), ids("upon\0"))
    assert encoded(corrected(plain, "more")) == ("Once ", "more\0")


@pytest.mark.parametrize("edit", ["The sky is grey.", " is grey."])
@pytest.mark.parametrize("answer", [" is blue.", "The sky is blue."])  # the second: with `echo`
def test_a_correction_of_what_was_begun_goes_on_from_its_beginning(edit: str, answer: str) -> None:
    begun = (*HI, {"role": "assistant", "content": "The sky"})
    prompt = PROMPT + "The sky"
    served = Recorded(begun, answer, ids(prompt), ids(" is blue.\0"))
    assert encoded(corrected(served, edit)) == (prompt, " is grey.\0\n")
    assert reason(corrected(served, "The sky ")) == "empty_answer"
    assert reason(corrected(served, "The sky is blue.")) == "unchanged_correction"
    plain = Recorded("The sky", answer, ids("The sky"), ids(" is blue.\0"))
    assert encoded(corrected(plain, edit)) == ("The sky", " is grey.\0")


def test_a_correction_of_an_answer_that_began_anew_is_taken_as_it_is() -> None:
    after = (*HI, {"role": "assistant", "content": "Hello."})
    served = Recorded(after, "Hello. Hi!", ids(PROMPT), ids("Hello. Hi!\0"))
    assert encoded(corrected(served, "Hello. Ho!")) == (PROMPT, "Hello. Ho!\0\n")


def test_a_correction_keeps_what_was_thought_before_the_answer() -> None:
    thought = "Hmm: blue?</think>\n\n"
    served = Recorded(HI, "Blue.", ids(PROMPT), ids(thought + "Blue.\0"))
    assert encoded(corrected(served, "Grey.")) == (PROMPT, thought + "Grey.\0\n")
    stopped = Recorded(HI, "Blue.", ids(PROMPT), ids("Blue. STOP"))
    assert encoded(corrected(stopped, "Grey.")) == (PROMPT, "Grey.\0\n")


texts = st.text("aä€", max_size=30)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": texts}
)
prompts = st.one_of(texts, st.lists(turns, min_size=1, max_size=3).map(tuple))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    prompts.filter(lambda said: said and (isinstance(said, str) or said[0]["role"] != "assistant")),
    texts,
)
def test_of_what_nobody_counted_the_rows_are_those_of_the_template(
    prompt: Any, answer: str
) -> None:
    assert Encoder(Characters(), 1000)(Recorded(prompt, answer)) == encode(
        Characters(), prompt, answer
    )


any_ids = st.lists(st.integers(0, 255), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(prompts, texts, any_ids, any_ids)
def test_whatever_was_served_is_what_is_trained(
    prompt: Any, answer: str, read: list[int], sampled: list[int]
) -> None:
    assert Encoder(Characters(), 1000)(Recorded(prompt, answer, read, sampled)) == (read, sampled)
