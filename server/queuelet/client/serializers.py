"""What a program puts and takes, from and to bytes."""

from __future__ import annotations

import json
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from queuelet.client.text import check_text

Item = TypeVar("Item")


class Serializer(Protocol[Item]):
    """Makes bytes of an item, and an item of bytes. What it raises is told to whoever puts, or sorts out what came."""

    def dump(self, item: Item, /) -> bytes:
        """Return the payload for an item."""
        ...

    def load(self, payload: bytes, /) -> Item:
        """Return the item of a payload, or raise whatever says that it has none."""
        ...


class BytesSerializer:
    """Items are bytes as they are."""

    def dump(self, item: bytes, /) -> bytes:
        """Return the item."""
        return item

    def load(self, payload: bytes, /) -> bytes:
        """Return the payload."""
        return payload


class TextSerializer:
    """Items are texts, in UTF-8."""

    def dump(self, item: str, /) -> bytes:
        """Return the text in UTF-8, or raise `InvalidArgument` for one with lone surrogates."""
        check_text("item", item)
        return item.encode()

    def load(self, payload: bytes, /) -> str:
        """Return the text, or raise `UnicodeDecodeError`."""
        return payload.decode()


class JsonSerializer:
    """Items are what JSON can say: dicts, lists, texts, numbers, booleans and None."""

    def dump(self, item: Any, /) -> bytes:  # noqa: ANN401  # JSON has no narrower type in Python
        """Return the item as JSON, without spaces; raise `TypeError` or `ValueError` for what JSON cannot say."""
        text = json.dumps(item, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        # JSON has an escape for a lone surrogate, as in a file name that is not UTF-8. In quotes it can only be that.
        return text.encode(errors="backslashreplace")

    def load(self, payload: bytes, /) -> Any:  # noqa: ANN401  # as above
        """Return what the JSON says, or raise `ValueError`."""
        return json.loads(payload)


class _Model(Protocol):
    """What pydantic's models have of their own, and others may have too."""

    @classmethod
    def model_validate_json(cls, json_data: bytes, /) -> Self:
        """Return the model that JSON describes, or raise `ValueError`."""
        ...

    def model_dump_json(self) -> str:
        """Return the model as JSON."""
        ...


Model = TypeVar("Model", bound=_Model)


class ModelSerializer(Generic[Model]):
    """Items are models of pydantic, or of anything with its two methods for JSON: `ModelSerializer(Order)`."""

    def __init__(self, model: type[Model]) -> None:
        """Take the model of the items."""
        self._model = model

    def dump(self, item: Model, /) -> bytes:
        """Return the model as JSON."""
        return item.model_dump_json().encode()

    def load(self, payload: bytes, /) -> Model:
        """Return the model that the JSON describes, or raise what its validation does."""
        return self._model.model_validate_json(payload)


BYTES: Final = BytesSerializer()
TEXT: Final = TextSerializer()
JSON: Final = JsonSerializer()
