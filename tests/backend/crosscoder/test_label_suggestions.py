"""Suggestions for labels count what is there; a chat model is asked only where somebody configured one."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pandas as pd
import pytest

from backend.crosscoder.label_suggestions import ChatError, ChatModel, configured, from_chat, from_tokens
from backend.store.labels import LONGEST_LABEL


@pytest.fixture
def examples():
    tokens = [[" a", " Wait", ","], [" b", "Wait", "!"], [" c", " But", " no"], [" d", "\n", " e"]]
    return pd.DataFrame({"window_tokens": tokens, "window_start": [4] * 4, "position": [5] * 4})


@pytest.fixture
def logits():
    return pd.DataFrame(
        {"side": ["bottom", "top", "top", "top"], "rank": [0, 0, 1, 2], "token": [" the", " wait", "wait", "\n"]}
    )


def test_tokens_are_counted_and_promoted_ones_listed_once(examples, logits):
    assert from_tokens(examples, logits) == [
        "fires on “Wait” (2 of 4), “But” (1 of 4), “↵” (1 of 4)",
        "promotes “wait”",
    ]


def test_a_silent_feature_has_no_suggestion_and_a_long_token_is_cut(examples, logits):
    assert from_tokens(examples.head(0), logits.head(0)) == []
    examples["window_tokens"] = [["", "x" * 1000, ""]] * 4
    assert [len(words) for words in from_tokens(examples, logits.head(0))] == [LONGEST_LABEL]


def test_nothing_is_asked_unless_an_address_and_a_model_are_named(monkeypatch):
    for name in ("URL", "MODEL", "KEY"):
        monkeypatch.delenv(f"ANCHORSCOPE_CHAT_{name}", raising=False)
    assert configured() is None
    monkeypatch.setenv("ANCHORSCOPE_CHAT_URL", "http://127.0.0.1:1/v1/")
    assert configured() is None
    monkeypatch.setenv("ANCHORSCOPE_CHAT_MODEL", "some-model")
    assert configured() == ChatModel("http://127.0.0.1:1/v1", "some-model")
    monkeypatch.setenv("ANCHORSCOPE_CHAT_KEY", "secret")
    assert configured().key == "secret" and "secret" not in repr(configured())
    monkeypatch.setenv("ANCHORSCOPE_CHAT_URL", "file:///etc/passwd")
    with pytest.raises(ChatError, match="http"):
        configured()


@pytest.fixture
def server():
    """`server(answer)`: a chat model on this machine that says `answer`; returns its address and what it was asked."""
    started = []

    def start(answer: bytes) -> tuple[str, list]:
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                asked.append(
                    (
                        self.path,
                        self.headers["Authorization"],
                        json.loads(self.rfile.read(int(self.headers["Content-Length"]))),
                    )
                )
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *words):
                pass

        one = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        started.append(one)
        return f"http://127.0.0.1:{one.server_port}/v1", asked

    yield start
    for one in started:
        one.shutdown()
        one.server_close()


def test_a_chat_model_is_shown_the_marked_tokens_and_its_words_become_one_line(server, examples):
    url, asked = server(json.dumps({"choices": [{"message": {"content": " Words of\n doubt. "}}]}).encode())
    assert from_chat(ChatModel(url, "some-model", "secret"), examples) == "Words of doubt."
    ((path, key, body),) = asked
    assert path == "/v1/chat/completions" and key == "Bearer secret" and body["model"] == "some-model"
    assert "a« Wait»," in body["messages"][0]["content"]


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": null}}]}', b"<html>"]
)
def test_what_is_no_answer_is_said_to_be_none(server, examples, answer):
    url, _ = server(answer)
    with pytest.raises(ChatError, match="some-model"):
        from_chat(ChatModel(url, "some-model"), examples)


def test_a_server_that_is_not_there_is_said_to_be_not_there(examples):
    with pytest.raises(ChatError, match="gave no label"):
        from_chat(ChatModel("http://127.0.0.1:1/v1", "some-model"), examples)
