"""What the dashboard answers to a browser, and to whom: real requests to a real server."""

import ast
import http.client
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from app.shell.serving import HEADERS, POLICY
from tests.browser.conftest import serving

ROOT = Path(__file__).resolve().parents[2]
LARGEST = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["server"]["maxUploadSize"]  # MB


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with serving([sys.executable, "-m", "streamlit", "run", "app/main.py"], folder, folder) as address:
        yield address


def ask(
    address: str, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    connection.request(method, path, body=body, headers=headers)
    return connection.getresponse()


@pytest.mark.parametrize(
    "path", ["/", "/latent_map", "/_stcore/health", "/_stcore/host-config", "/static/nothing.js", "/media/nothing"]
)
def test_every_answer_bears_the_headers(address, path):
    answer = ask(address, path)
    assert {name: answer.getheader(name) for name in HEADERS} == HEADERS


def test_the_policy_lets_no_foreign_script_run_and_nobody_frame_a_page():
    assert not {"'unsafe-inline'", "*", "https:", "http:", "data:"} & set(POLICY["script-src"].split())
    assert (
        POLICY["frame-ancestors"] == POLICY["object-src"] == POLICY["default-src"] == POLICY["form-action"] == "'none'"
    )
    assert POLICY["connect-src"] == "'self'"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8501",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "",
        "[::1",
        "a b",
    ],
)
@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/media/x"])
def test_a_foreign_host_name_is_refused_whatever_is_asked(address, host, path):
    answer = ask(address, path, Host=host)
    assert answer.status in (400, 403) and b"<html" not in answer.read()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST:8501"])
def test_this_machine_is_answered_under_its_names(address, host):
    assert ask(address, "/_stcore/health", Host=host).status == 200


def test_a_document_at_a_path_of_several_parts_is_sent_to_one_of_one_part_where_the_page_finds_its_files(address):
    answer = ask(address, "/foo/bar?study=a%20b&layer=3", Accept="text/html,*/*;q=0.8")
    there = urlsplit(answer.getheader("location"))
    assert (
        answer.status == 307
        and unquote(there.path) == "/foo∕bar"
        and there.query == "study=a%20b&layer=3"
        and not there.netloc
    )
    assert ask(address, f"{there.path}?{there.query}", Accept="text/html").status == 200
    assert {name: answer.getheader(name) for name in HEADERS} == HEADERS


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/latent_map/_stcore/health", "*/*"),
        ("/media/nothing.csv", "text/html"),
        ("/static/js/nothing.js", "text/html"),
        ("//evil.example", "*/*"),
        ("/latent_map", "text/html"),
    ],
)
def test_what_is_no_document_or_has_one_part_is_not_sent_elsewhere(address, path, accept):
    assert ask(address, path, Accept=accept).status not in (302, 307, 308)


def test_no_path_sends_a_browser_to_another_site(address):
    for path in ("//evil.example/x", "/\\evil.example/x", "/%2F%2Fevil.example/x", "/a/%0d%0aX-Evil:1"):
        there = ask(address, path, Accept="text/html").getheader("location") or "/"
        assert there.startswith("/") and not there.startswith(("//", "/\\")) and "\n" not in there


def test_a_web_socket_of_a_foreign_page_is_refused(address):
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OTAxMjM0NQ==",
    }
    assert ask(address, "/_stcore/stream", Origin="http://evil.example", **upgrade).status == 403
    assert ask(address, "/_stcore/stream", Host="evil.example", Origin="http://evil.example", **upgrade).status == 403
    own = urlsplit(address).netloc
    assert ask(address, "/_stcore/stream", Host=own, Origin=address, **upgrade).status == 101


def test_every_uploader_says_how_much_it_takes_and_the_server_takes_no_more():
    sizes = []
    for file in [*(ROOT / "app").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        tree = ast.parse(file.read_text())
        named = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", None) in (
                "file_uploader",
                "audio_input",
                "camera_input",
            ):
                given = {keyword.arg: keyword.value for keyword in node.keywords}["max_upload_size"]
                sizes.append(given.value if isinstance(given, ast.Constant) else named[given.id])
    assert sizes and max(sizes) == LARGEST <= 16
