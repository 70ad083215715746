"""One text for one head, in every table; a table's own words are not overwritten."""

import streamlit as st

from app.shell.heads import HEADS, explained


def test_each_head_that_has_words_gets_them_and_keeps_its_format():
    config = explained(["q", "ρ", "nobody's"], {"q": st.column_config.NumberColumn(format="%.2g")})
    assert set(config) == {"q", "ρ"}
    assert config["q"]["help"] == HEADS["q"] and config["q"]["type_config"]["format"] == "%.2g"


def test_words_of_a_tables_own_stay():
    assert explained(["q"], {"q": st.column_config.Column(help="mine")})["q"]["help"] == "mine"


def test_every_text_is_a_sentence():
    assert all(words.endswith(".") for words in HEADS.values())
