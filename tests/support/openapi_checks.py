"""Further checks of each response for schemathesis, which loads this module by its name."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.check
def refusals_have_one_form(
    _context: schemathesis.CheckContext, response: schemathesis.Response, _case: schemathesis.Case[Any]
) -> None:
    """Check that an error has the form of all errors, and that bad input has the name of the field."""
    if response.status_code < 400:
        return
    refusal = response.json()
    assert list(refusal) == ["error", "code", "reason", "facts"]
    is_http = not refusal["error"].startswith("request: not valid HTTP")
    if refusal["reason"] == "INVALID_ARGUMENT" and is_http:
        assert "field" in refusal["facts"], "a refusal of bad input has no field"
