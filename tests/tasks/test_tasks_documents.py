"""Documents, their split and the tokenizer trained on one side of it."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import vocabulary
from tasks.documents import Spool, drawn, held_out, sections
from tasks.errors import CorpusError


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="ab\n", min_size=1, max_size=2000), length=st.integers(5, 100))
def test_sections_are_the_text_in_order_and_never_large(text, length):
    parts = list(sections("x", text, length))
    assert "".join(part for _, part in parts) == text
    assert len({name for name, _ in parts}) == len(parts)
    assert all(len(part) <= 3 * length + 2 for _, part in parts)
    assert all(len(part) >= length for _, part in parts[:-1])


def test_sections_end_at_a_blank_line_where_there_is_one():
    text = "one two three\nfour five six\n\nseven eight nine\nten\n\neleven"
    assert [part for _, part in sections("x", text, 15)] == [
        "one two three\nfour five six\n\n",
        "seven eight nine\nten\n\n",
        "eleven",
    ]


def test_held_out_follows_the_hashes_of_names():
    names, sizes = [f"document {index}" for index in range(100)], [10] * 100
    order = sorted(range(100), key=lambda index: hashlib.sha256(names[index].encode()).hexdigest())
    assert held_out(names, sizes) == set(order[:8])


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 1000), min_size=2, max_size=60))
def test_held_out_is_never_empty_and_never_much(sizes):
    chosen = held_out([str(index) for index in range(len(sizes))], sizes)
    share = sum(sizes[index] for index in chosen) / sum(sizes)
    assert chosen
    assert share <= 0.10 or chosen == {sizes.index(min(sizes))}
    assert len(chosen) < len(sizes)


def test_the_usual_share_is_8_to_10_percent():
    draw = random.Random(0)
    sizes = [draw.randrange(500, 2000) for _ in range(300)]
    chosen = held_out([str(index) for index in range(300)], sizes)
    assert 0.08 <= sum(sizes[index] for index in chosen) / sum(sizes) <= 0.10


def test_a_spool_leaves_out_blanks_and_repeats_and_splits_the_rest(tmp_path):
    documents = [(f"{index}", f"text {index}\n") for index in range(20)]
    spool = Spool("x", tmp_path / "spool", [*documents, ("blank", " \n"), ("again", "text 3\n")])
    assert spool.names == [name for name, _ in documents]
    train, heldout = list(spool.texts(False)), list(spool.texts(True))
    assert len(heldout) == len(spool.held_out) >= 1
    assert sorted(train + heldout) == sorted(text for _, text in documents)


def test_a_single_document_is_cut_into_sections(tmp_path):
    text = "".join(f"line {index}\n" for index in range(2000))
    spool = Spool("x", tmp_path / "spool", [("one", text)])
    assert 30 <= len(spool.names) <= 70
    assert 0.05 <= sum(spool.sizes[index] for index in spool.held_out) / len(text) <= 0.10


@pytest.mark.parametrize("documents", [[], [("a", "")], [("a", "few words")]])
def test_too_little_text_is_refused(tmp_path, documents):
    with pytest.raises(CorpusError, match="are too little to train on and to hold some out"):
        Spool("x", tmp_path / "spool", documents)


TEXTS = [
    "the cat sat on the mat, the cat sat.\n" * 30,
    "Grüße, naïve café — λ → 😀 \t\r\n" * 20,
    "def f(x):\n    return x\n",
]


def test_bytes_of_tokens_add_up_to_the_length_of_the_text():
    tokenizer = vocabulary.train(TEXTS, 300)
    bytes_V = vocabulary.token_bytes(tokenizer, 300)
    for text in [*TEXTS, "unseen: 漢字 \x00 <|endoftext|> 🏳️‍🌈"]:
        (tokens,) = vocabulary.encode(tokenizer, [text], end=299)
        assert tokens[-1] == 299
        assert 299 not in tokens[:-1]
        assert bytes_V[tokens].sum() == len(text.encode())
        assert tokenizer.decode(tokens[:-1]) == text


@settings(max_examples=80, deadline=None)
@given(text=st.text(max_size=200))
def test_every_text_can_be_written_and_read_back(text):
    tokenizer = vocabulary.train(TEXTS, 280)
    (tokens,) = vocabulary.encode(tokenizer, [text], end=279)
    assert tokenizer.decode(tokens[:-1]) == text
    assert vocabulary.token_bytes(tokenizer, 280)[tokens].sum() == len(text.encode())


def test_the_vocabulary_is_the_bytes_and_then_the_commonest_pairs():
    tokenizer = vocabulary.train(["abababab cdcd " * 10], 258)
    assert tokenizer.get_vocab_size() == 257
    assert tokenizer.id_to_token(256) == "ab"
    assert sorted(vocabulary.token_bytes(tokenizer, 258)) == [0] + [1] * 256 + [2]


def test_long_corpora_are_encoded_in_batches(monkeypatch):
    tokenizer = vocabulary.train(TEXTS, 300)
    whole = list(map(list, vocabulary.encode(tokenizer, TEXTS, end=299)))
    monkeypatch.setattr(vocabulary, "BATCH_CHARACTERS", 10)
    assert list(map(list, vocabulary.encode(tokenizer, TEXTS, end=299))) == whole
    assert np.concatenate(whole).max() == 299


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=60), most=st.integers(0, 5000))
def test_a_draw_fits_keeps_the_order_and_leaves_nothing_out_that_fits(sizes, most):
    documents = [(str(index), "é" * size) for index, size in enumerate(sizes)]  # two bytes each
    chosen = drawn(documents, most)
    taken = sum(2 * len(text) for _, text in chosen)
    assert taken <= most
    assert [name for name, _ in chosen] == sorted({name for name, _ in chosen}, key=int)
    assert all(taken + 2 * len(text) > most for name, text in documents if (name, text) not in chosen)


def test_a_draw_does_not_follow_the_order_of_what_is_held_out():
    """Else what is held out would be drawn whole, and the rest of the text thinned."""
    names, sizes = [f"document {index}" for index in range(1000)], [10] * 1000
    chosen = {name for name, _ in drawn([(name, "x" * 10) for name in names], 5000)}
    lowest = {names[index] for index in held_out(names, sizes)}
    assert 0.35 < len(lowest & chosen) / len(lowest) < 0.65


ODD = " \n\t'sdlltrevm_aé²½Ⅷ٣文\x1c\xa0\u3000\u0301😀.-=(){}12"
ODD_TEXTS = st.text(alphabet=st.one_of(st.sampled_from(ODD), st.characters(codec="utf-8")))


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(ODD_TEXTS, max_size=6))
def test_tokens_are_those_the_tokenizer_gives(texts):
    tokenizer = TOKENIZER
    expected = [[*tokenizer.encode(text).ids, 399] for text in texts]
    assert [tokens.tolist() for tokens in vocabulary.encode(tokenizer, texts, end=399)] == expected


TOKENIZER = vocabulary.train(["it's the load's balance; they'll route 12 tokens\n\n   to 4 experts_of_2. "] * 3, 400)
