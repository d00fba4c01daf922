"""The document that pages stand in: nothing acts but its own style and script, and any text can be written."""

from __future__ import annotations

import base64
import hashlib
import re

from longpole.document import PLAIN_STYLE, document, plain_page


def policy_of(text: str) -> dict[str, str]:
    """The directives of the policy, each with what it allows."""
    (content,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    return dict(one.strip().split(" ", 1) for one in content.split(";"))


def source_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_allows_exactly_this_style_and_this_script() -> None:
    found = policy_of(document("t", "p{color:red}", "<p>b</p>", "let a = 1;"))
    assert found == {
        "default-src": "'none'",
        "script-src": source_of("let a = 1;"),
        "style-src": source_of("p{color:red}"),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_without_a_script_none_may_act() -> None:
    text = document("t", "", "")
    assert "script-src" not in policy_of(text)
    assert "<script" not in text


def test_a_plain_page_has_the_shared_style_and_its_own() -> None:
    text = plain_page("t", "i{color:red}", "")
    assert f"<style>{PLAIN_STYLE}i{{color:red}}</style>" in text
    assert policy_of(text)["style-src"] == source_of(f"{PLAIN_STYLE}i{{color:red}}")


def test_any_title_and_any_text_can_be_written() -> None:
    text = document("</title><script>\ud800", "", "<p>a \udfff b</p>")
    assert "<title>&lt;/title&gt;&lt;script&gt;?</title>" in text
    assert "<p>a ? b</p>" in text
    assert text.encode("utf-8").decode("utf-8") == text
