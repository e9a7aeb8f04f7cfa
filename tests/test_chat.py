"""Chats as ids: spans, system folding, BOS, length."""

import numpy as np
import pytest
from conftest import PIECES, make_tokenizer

from lab.prompts.chat import _repaired, check_length, render, turn_end
from lab.records import LabError, Message, Rendered

SYSTEM = Message("system", "You are Ada, a patient teacher.\nMemory:\nthe user likes tea.")
TURNS = [
    Message("user", "What is the capital of France?"),
    Message("assistant", "Paris, of course: Île-de-France."),
    Message("user", "And who are you? \U0001f642 Tell me."),
]


@pytest.fixture(scope="module")
def tokenizers():
    return {style: make_tokenizer(style) for style in ("chatml", "refusing", "dropping", "base")}


def _pieces(tokenizer, rendered):
    return [(s.role, tokenizer.decode(rendered.ids[s.start : s.end]).strip()) for s in rendered.spans]


@pytest.mark.parametrize("style", ["chatml", "base"])
def test_spans_decode_to_the_contents(tokenizers, style):
    rendered = render(tokenizers[style], [SYSTEM, *TURNS])
    assert _pieces(tokenizers[style], rendered) == [(m.role, m.content) for m in [SYSTEM, *TURNS]]
    ends = [0, *[s.end for s in rendered.spans], len(rendered.ids)]
    assert ends == sorted(ends)
    assert rendered.ids.dtype == np.int64


@pytest.mark.parametrize("style", ["refusing", "dropping"])
def test_system_is_folded_where_the_template_has_no_place_for_it(tokenizers, style):
    rendered = render(tokenizers[style], [SYSTEM, *TURNS])
    folded = f"{SYSTEM.content}\n\n{TURNS[0].content}"
    assert _pieces(tokenizers[style], rendered) == [
        ("user", folded),
        ("assistant", TURNS[1].content),
        ("user", TURNS[2].content),
    ]
    assert rendered.text.count(SYSTEM.content) == 1


def test_system_is_not_folded_where_the_template_takes_it(tokenizers):
    text = render(tokenizers["chatml"], [SYSTEM, TURNS[0]]).text
    assert f"<|im_start|>system\n{SYSTEM.content}<|im_end|>" in text
    assert f"<|im_start|>user\n{TURNS[0].content}<|im_end|>" in text


def test_a_dropped_system_text_is_noticed_although_the_user_says_the_same(tokenizers):
    text = render(tokenizers["dropping"], [Message("system", "capital"), TURNS[0]]).text
    assert "capital\n\nWhat is the capital of France?" in text


def test_without_system_nothing_is_folded(tokenizers):
    for tokenizer in tokenizers.values():
        assert _pieces(tokenizer, render(tokenizer, TURNS[:1])) == [("user", TURNS[0].content)]


@pytest.mark.parametrize("word", ["user", "User", "system", "im"])
def test_a_content_that_is_a_word_of_the_template(tokenizers, word):
    for style in ("chatml", "base"):
        rendered = render(tokenizers[style], [Message("system", word), Message("user", word)])
        for span in rendered.spans:
            assert tokenizers[style].decode(rendered.ids[: span.start]).rstrip(" ")[-1] in "\n:>", (
                style,
                span,
            )
        assert [t for _, t in _pieces(tokenizers[style], rendered)] == [word, word]


def test_surrounding_blanks_do_not_disturb(tokenizers):
    for tokenizer in tokenizers.values():
        rendered = render(tokenizer, [Message("user", "  What is the capital?\n")])
        assert _pieces(tokenizer, rendered) == [("user", "What is the capital?")]


@pytest.mark.parametrize("style", ["chatml", "refusing", "base"])
def test_one_bos(tokenizers, style):
    ids = render(tokenizers[style], [SYSTEM, *TURNS]).ids.tolist()
    assert ids[0] == 1
    assert ids.count(1) == 1


def test_the_chat_ends_where_the_reply_begins(tokenizers):
    assert render(tokenizers["chatml"], TURNS).text.endswith("<|im_start|>assistant\n")
    assert render(tokenizers["base"], TURNS).text.endswith("Tell me.\nAssistant:")


def test_a_chat_that_the_template_refuses(tokenizers):
    strict = make_tokenizer("refusing")
    strict.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(LabError, match=r"user, user: roles must alternate"):
        render(strict, [TURNS[0], TURNS[0]])


@pytest.mark.parametrize("style", ["chatml", "base"])
def test_a_loaded_model_tokenises_as_its_folder_does(loaded, style):
    for family in ("llama", "gpt2"):
        plain = make_tokenizer(style, PIECES.get(family, 300))
        ids = render(loaded(family, style).tokenizer, [SYSTEM, *TURNS]).ids
        assert ids.tolist() == render(plain, [SYSTEM, *TURNS]).ids.tolist()


@pytest.mark.parametrize("messages", [[], [SYSTEM], TURNS[:2]])
def test_a_chat_must_end_with_a_user(tokenizers, messages):
    with pytest.raises(LabError, match="user message"):
        render(tokenizers["chatml"], messages)


def test_check_length():
    chat = Rendered(np.zeros(100, np.int64), (), "")
    check_length(chat, 130, 30)
    with pytest.raises(LabError, match=r"100 tokens.*reply of 31.*context of 130.*--max-new-tokens"):
        check_length(chat, 130, 31)


def test_zero_width_offsets_are_repaired():
    assert _repaired([(0, 0), (0, 0), (6, 6), (9, 12)]) == [(0, 0), (0, 6), (6, 9), (9, 12)]
    assert _repaired([(0, 3), (3, 6)]) == [(0, 3), (3, 6)]
    assert _repaired([]) == []


@pytest.mark.parametrize("style", ["chatml", "refusing", "base"])
def test_spans_survive_zero_width_offsets(tokenizers, style):
    class ZeroWidth:
        """The tokenizer, with the offsets as some fast tokenizers give them."""

        chat_template = tokenizers[style].chat_template
        apply_chat_template = staticmethod(tokenizers[style].apply_chat_template)

        def __call__(self, text, **options):
            encoded = tokenizers[style](text, **options)
            return {
                "input_ids": encoded["input_ids"],
                "offset_mapping": [(start, start) for start, _ in encoded["offset_mapping"]],
            }

    plain = [Message("system", SYSTEM.content), TURNS[0]]
    assert render(ZeroWidth(), plain).spans == render(tokenizers[style], plain).spans


THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}{% endif %}"
    "{{ date_string }}"
)


def test_templates_are_asked_for_the_reply_without_a_chain_of_thought_and_for_a_fixed_day():
    """Qwen3's template opens a chain of thought unless enable_thinking is false; Llama 3's prints today."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = THINKING
    text = render(tokenizer, [Message("user", "Who are you?")]).text
    assert text.endswith("<think></think>01 Jan 2025")


def test_turn_end(tokenizers):
    end = tokenizers["chatml"].convert_tokens_to_ids("<|im_end|>")
    assert turn_end(tokenizers["chatml"]) == turn_end(tokenizers["refusing"]) == end
    plain = make_tokenizer()
    plain.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    assert turn_end(plain) is None
